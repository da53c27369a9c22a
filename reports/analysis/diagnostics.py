"""Diagnostics of the samples: whether the order within a round matters, the machine drifts, or noise lasts.

All of it from the samples alone. The case is taken out by its mean over the rounds, so two rounds are the least.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import expm1, log, nan, sqrt

import numpy as np
import scipy

from reports.decision.comparison import candidates
from reports.decision.speed import case_ns, pairs
from reports.records.record import INTERLEAVED, Sample
from reports.records.store import Run
from reports.stats.launches import Floats
from reports.stats.multiplicity import holm

FEWEST = 3  # samples at a position, for its ranks to mean anything


@dataclass(frozen=True, kw_only=True)
class OrderEffect:
    """Whether a variant's time depends on its position among the samples of one case in one round.

    Attributes:
        p: of the Kruskal-Wallis test (Kruskal & Wallis, JASA 47, 1952) of the log times; `p_holm`: over the variants.
        range_pct: between the medians of the slowest and the fastest position.
    """

    p: float
    range_pct: float
    positions: int
    p_holm: float = nan


@dataclass(frozen=True)
class Drift:
    """The trend of the baseline's log time, with an effect for each case; `p` by Student's t.

    Source: the within estimator, Wooldridge, Econometric Analysis of Cross Section and Panel Data (2010), section 10.5.
    """

    pct_over_run: float
    p: float
    hours: float


@dataclass(frozen=True)
class Autocorrelation:
    """Of the log ratios' residuals from one sample to the next, with its standard error 1 / sqrt(samples).

    Source: Box, Jenkins & Reinsel, Time Series Analysis (1994), section 2.1.
    """

    lag1: float
    standard_error: float
    samples: int


@dataclass(frozen=True)
class Diagnostics:
    """What the samples show; empty or None where there are too few. Several shards have no drift in common."""

    order: Mapping[str, OrderEffect] = field(default_factory=dict)
    drift: Drift | None = None
    autocorrelation: Mapping[str, Autocorrelation] = field(default_factory=dict)


def diagnose(run: Run) -> Diagnostics:
    """The diagnostics of a run, over the variants that run, or ran, to the end."""
    timed = {
        variant.name: [sample for sample in variant.samples if sample.phase == INTERLEAVED]
        for variant in run.variants
        if variant.counts
    }
    lags = {variant.name: _autocorrelation(run, variant.name) for variant in candidates(run)}
    return Diagnostics(
        _order_effects(timed),
        None if run.record.shards else _drift(timed.get(run.record.baseline, [])),
        {name: lag for name, lag in lags.items() if lag},
    )


def _order_effects(timed: Mapping[str, Sequence[Sample]]) -> dict[str, OrderEffect]:
    starts: dict[tuple[int, str], list[float]] = {}
    for samples in timed.values():
        for sample in samples:
            starts.setdefault((sample.round, sample.case), []).append(sample.started_unix_s)
    effects = {}
    for name, samples in timed.items():
        residuals = _within_groups([s.case for s in samples], [log(s.case_ns) for s in samples])
        by_position: dict[int, list[float]] = {}
        for sample, residual in zip(samples, residuals, strict=True):
            position = sum(other < sample.started_unix_s for other in starts[sample.round, sample.case])
            by_position.setdefault(position, []).append(residual)
        kept = [values for values in by_position.values() if len(values) >= FEWEST]
        if len(kept) > 1 and np.ptp(np.concatenate(kept)) > 0:
            medians = [float(np.median(values)) for values in kept]
            spread = 100 * expm1(max(medians) - min(medians))
            p = float(scipy.stats.kruskal(*kept).pvalue)
            effects[name] = OrderEffect(p=p, range_pct=spread, positions=len(kept))
    adjusted = holm([effect.p for effect in effects.values()])
    return {
        name: replace(effect, p_holm=p_holm) for (name, effect), p_holm in zip(effects.items(), adjusted, strict=True)
    }


def _drift(samples: Sequence[Sample]) -> Drift | None:
    """None too where the wall clock was set back meanwhile, so that nothing says when the samples were taken."""
    starts = [sample.started_unix_s for sample in samples]
    if starts != sorted(starts):  # they stand in the order in which they were taken
        return None
    names = [sample.case for sample in samples]
    freedom = len(samples) - len(set(names)) - 1
    if freedom < 1:
        return None
    hours = np.array([sample.started_unix_s / 3600 for sample in samples])
    x, y = _within_groups(names, hours), _within_groups(names, [log(sample.case_ns) for sample in samples])
    if not (squares := float(x @ x)):
        return None
    slope, span = float(x @ y) / squares, float(np.ptp(hours))
    error = sqrt(float(((y - slope * x) ** 2).sum()) / freedom / squares)
    p = float(2 * scipy.stats.t.sf(abs(slope) / error, freedom)) if error else float(slope == 0)
    return Drift(pct_over_run=100 * expm1(slope * span), p=p, hours=span)


def _autocorrelation(run: Run, name: str) -> Autocorrelation | None:
    paired = sorted(pairs(run, name, INTERLEAVED), key=lambda pair: (pair[1].shard, pair[1].started_unix_s))
    ratios = [(new, log(case_ns(old) / case_ns(new))) for old, new in paired if case_ns(old) and case_ns(new)]
    residuals = _within_groups([sample.case for sample, _ in ratios], [ratio for _, ratio in ratios])
    residuals = _within_groups(
        [f"{sample.shard} {sample.launch}" for sample, _ in ratios], residuals
    )  # the bounds take account of the starts
    if not (squares := float(residuals @ residuals)):
        return None
    shards = np.array([sample.shard for sample, _ in ratios])
    neighbours = shards[1:] == shards[:-1]
    lag1 = float(residuals[1:][neighbours] @ residuals[:-1][neighbours]) / squares
    return Autocorrelation(lag1=lag1, standard_error=1 / sqrt(len(residuals)), samples=len(residuals))


def _within_groups(labels: Sequence[str], values: Iterable[float]) -> Floats:
    """The values less the mean of their group."""
    array = np.array(list(values), dtype=np.float64)
    if not array.size:
        return array
    _, place = np.unique(np.array(labels), return_inverse=True)
    residuals: Floats = array - (np.bincount(place, array) / np.bincount(place))[place]
    return np.where(np.abs(residuals) < 1e-12, 0.0, residuals)  # what only rounding left
