"""A case's way from image to mask and class: `pipeline` takes one case that way, `stream` many.

`preparation` or `nnunet` bring a volume to the network and back, `region` and `roi` choose the part that is run,
`tiles` cuts it, `tile_runner` runs the tiles, `merge` adds their logits up.
"""
