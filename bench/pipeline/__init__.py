"""A case's way from the file on disk to mask and class: cases, volume, preprocess, roi, tiles, stitch, write.

`pipeline` takes one case that way, `stream` many.
"""
