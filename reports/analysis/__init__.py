"""What else the records say: times (`latency`, `diagnostics`, `interference`), limits (`roofline`, `gpu`), `resources`,
`roi`, `pareto`, the `ranking` in resamples, `peers`, the `cases` that changed most, the `shards` of a merged run, and
the `training_metrics` of the checkpoint."""
