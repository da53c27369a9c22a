"""Networks and their weights: the reference `unet`, its `widening` and `batch_norm_folding`; `outputs` of any network,
`weights` into it, and `build`, which makes the `Model`."""
