"""From paired samples to verdicts.

`speed`, `accuracy` and `flips` of one variant, their `comparison` with the baseline, the `verdict` on it, the `outcome`
of the run, and `regression` between runs that `comparability` lets be compared; `history`: how speedups went over many.
`needed`: how many cases a claim takes. `racing`: which variants may leave the rounds before their end.
`confirmation_plan`: how many cases and launches the confirmation takes. `tuning`: which trial of a search is the best.
"""
