"""Networks and their weights: the reference `unet`, `widening` and `batch_norm_folding`, `outputs` of any network,
`weights` into a module."""
