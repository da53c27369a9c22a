"""A case of a MONAI bundle: its `transforms` as MONAI's objects, whose `resampling` is done axis by axis, and the
`preparation` that they are.
"""
