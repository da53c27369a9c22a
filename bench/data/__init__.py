"""Files to arrays and back: `cases` finds them, with their classes by `class_table`; `volume` reads images and masks,
`write` writes masks and classes; `space` says where voxels lie, `remarks` what a run's files say beside it;
`compression`, `voxels` and `blocks` do the work."""
