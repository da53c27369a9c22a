"""nnU-Net's networks.

`plans` and `dataset` are read, `architecture` is looked up, `head` is found, and `build` makes the model.
"""
