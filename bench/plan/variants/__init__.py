"""What is timed beside what.

`variants` reads the variants of a run by name, `recipes` those of a file and the user's own commands; `augmentation` is
how the tiles of one are mirrored.
"""
