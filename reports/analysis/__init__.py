"""What else the records say: times (`latency`, `diagnostics`, `interference`), limits (`roofline`, `gpu`), `resources`,
`roi`, `pareto`, `peers`, and the `training_metrics` of the checkpoint."""
