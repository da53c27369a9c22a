"""Networks and their weights: the reference `unet`, its `widening` and `batch_norm_folding`; `channels`,
`outputs` and `dataflow` of any network, the `compiler` that nobody asked for, `weights` into it, and `build`, which
makes the `Model`."""
