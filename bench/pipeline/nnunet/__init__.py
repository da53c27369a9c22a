"""A case of a network of nnU-Net: its `reader`, its `preparation` and way back on tensors (`resampling`), nnU-Net's
`official` ones, and the `tiling` of its predictor.
"""
