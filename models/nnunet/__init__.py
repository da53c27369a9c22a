"""nnU-Net's networks: `plans` and `dataset` are read, `architecture` is looked up, `head` found, `build` makes the model."""
