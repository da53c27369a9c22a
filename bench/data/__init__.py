"""Files to arrays and back: `cases` finds them, `volume` reads images and masks, `write` writes masks and classes;
`compression`, `voxels` and `blocks` do the work."""
