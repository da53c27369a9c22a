"""DICOM: a folder of slices to a volume, and labels to a DICOM Segmentation.

`files` finds images by their first bytes, `headers` reads what of them is asked, `geometry` stacks slices, `series`
puts them together into a nibabel image. `segmentation` writes labels onto the slices of a series and reads them back,
with `concepts` as codes. `toolkit` imports pydicom and highdicom, which are the extra dicom, and keeps them quiet:
nothing that names a patient is read before a segmentation is written, or printed ever.
"""
