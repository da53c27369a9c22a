"""Networks and their weights: the reference `unet`, its `widening` and `batch_norm_folding`; `channels`,
`outputs` and `dataflow` of any network, `weights` into it, and `build`, which makes the `Model`."""
