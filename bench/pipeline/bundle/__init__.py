"""A case of a MONAI bundle: its `transforms` as MONAI's objects, and the `preparation` that they are."""
