"""Files to arrays and back: `cases` finds them, `volume` reads images and masks, `write` writes masks and classes;
`space` says where voxels lie, `remarks` what a run's headers say beside it; `compression`, `voxels` and `blocks` do the
work."""
