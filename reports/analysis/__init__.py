"""What else the records say: times (`latency`, `diagnostics`, `interference`), limits (`roofline`, `gpu`), `resources`,
`roi`, `pareto`, `peers`, and `run_warnings` about taking figures at their word."""
