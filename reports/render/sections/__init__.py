"""The parts of the markdown report, a topic a file.

What was asked for (`requirements`), the `variants` and their verdicts, recipes on time against accuracy (`pareto`), the
reference pipelines (`peers`), `accuracy`, `roi`, `times`, `diagnostics`, `resources`, `interference`, the `shards`, the
`training_metrics` of the checkpoint, and `provenance`: what it takes to repeat the run.
"""
