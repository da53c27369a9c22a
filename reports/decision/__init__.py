"""From paired samples to verdicts: `comparison` and `flips` of one variant, `verdict` on it, `outcome` of the run,
`regression` between runs that `comparability` lets be compared."""
