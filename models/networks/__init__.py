"""Networks and their weights: the reference `unet`, its `widening` and `batch_norm_folding`; `channels`,
`outputs` and `dataflow` of any network, the `compiler` on demand, `weights` into it, the
`window` of intensities before it, and `build`, which makes the `Model`."""
