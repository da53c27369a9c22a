"""Files to arrays and back: `layouts` finds cases, by `datalist` where a JSON lists them, `class_table` gives them
classes, `dataset_json` says what the values in their masks mean, and `cases` puts it together; `volume` reads images
and masks, `write` writes masks and classes; `formats` knows their formats, `dicom` that of clinics, `space` says where
voxels lie, `remarks` what a run's files say beside it; `compression`, `voxels` and `blocks` do the work."""
