"""How stable the ranking of a run's variants by time is: their ranks over resamples of the cases.

As challengeR shows it: Wiesenfarth et al., "Methods and open-source toolkit for analyzing and visualizing challenge
results", Scientific Reports 11:2369, 2021.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from reports.decision.speed import case_ns, log_speedups, pairs
from reports.records.record import INTERLEAVED
from reports.records.store import Run
from reports.stats.bootstrap import MIN_CASES, resampled_counts

FEWEST = 3  # variants, the baseline among them: of two the bounds of the one say the same
_DIGITS = 12  # of a mean log speedup, beyond which only rounding tells variants apart


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The variants by their geometric mean speedup over the cases.

    Attributes:
        names: the fastest first; the baseline and the peers are among them.
        shares: of each of these, the share of the resamples in which it had rank 1, 2 and so on. Equal ones share the
            better rank.
        cases: that every one of them has run; the resamples draw these, of all variants together.
        left_out: variants that did not run all of these, or that have no time of a case.
    """

    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    cases: int
    left_out: tuple[str, ...]


def rank(run: Run) -> Ranking | None:
    """The ranking by the interleaved samples; None below `FEWEST` variants, or `MIN_CASES` cases that all have run.

    Only the cases are resampled. That another launch of the processes shifts a variant is in the bounds of its speedup,
    and not in here.
    """
    if run.variant(run.record.baseline).settings.one_call:
        return None  # then no ratio is that of a case
    speedups = _speedups(run)
    most = max(map(len, speedups.values()), default=0)
    ranked = {name: of_cases for name, of_cases in speedups.items() if len(of_cases) == most}
    if len(ranked) < FEWEST or most < MIN_CASES:
        return None
    cases = sorted(next(iter(ranked.values())))
    if any(of_cases.keys() != set(cases) for of_cases in ranked.values()):
        return None
    values = np.array([[of_cases[case] for of_cases in ranked.values()] for case in cases])  # [cases, variants]
    shares = np.zeros((len(ranked), len(ranked)))
    resamples = 0
    for counts in resampled_counts(len(cases)):
        means = (counts @ values / len(cases)).round(_DIGITS)
        ranks = scipy.stats.rankdata(-means, method="min", axis=1).astype(np.int64)
        for i, of_variant in enumerate(ranks.T):
            shares[i] += np.bincount(of_variant - 1, minlength=len(ranked))
        resamples += len(counts)
    order = np.argsort(-values.mean(axis=0), kind="stable")
    names = list(ranked)
    return Ranking(
        names=tuple(names[i] for i in order),
        shares=tuple(tuple((shares[i] / resamples).tolist()) for i in order),
        cases=len(cases),
        left_out=tuple(name for name in speedups if name not in ranked),
    )


def _speedups(run: Run) -> dict[str, Mapping[str, float]]:
    """The log speedup of each case by each variant that ran; the baseline's are 0."""
    speedups: dict[str, Mapping[str, float]] = {}
    for variant in run.variants:
        if not variant.counts:
            continue
        if variant.name == run.record.baseline:
            speedups[variant.name] = {s.case: 0.0 for s in variant.samples if s.phase == INTERLEAVED}
        elif variant.settings.one_call:
            speedups[variant.name] = {}
        else:
            speedups[variant.name] = log_speedups(pairs(run, variant.name, INTERLEAVED), case_ns)
    return speedups
