"""Images and masks of a run's cases, small enough to go into a page.

`case_images` reads them from disk, `view` chooses the part that is shown and how finely, `window` turns intensities
into shades of grey, and `anonymous` writes a volume as a NIfTI file that holds nothing but voxels and their place,
for a page or for another machine.
"""
