"""A case's way from the file on disk to mask and class: cases, preprocess, roi, tiles, stitch, write."""
