"""A case's way from image to mask and class: `pipeline` takes one case that way, `stream` many.

`settings` says what is asked of it and what it reports. `preparation` and, by nnU-Net's plans, `nnunet` or by MONAI's
transforms `bundle` bring a volume to the network and back (`preprocess` reads it onto the device and normalises it,
`resampling` gives it another spacing); `roi` chooses the `region` that is run; `tiles` cuts it, `tile_runner` runs the
tiles, `merge` adds their logits up, `finite` looks for NaN in them, and `label_map` makes labels of them.
"""
