"""Statistics over cases: pure functions of arrays, seeded, so that a run's files always give the same answer.

The patient is the unit: whatever is resampled, a case goes with all its rounds and with both arms of its pair.
Bounds are one-sided at `CONFIDENCE`, so ``low`` and ``high`` together enclose 90 %. They are NaN with fewer than
`MIN_CASES` cases.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 0  # fixed, so that nobody can shop for a favourable one
MIN_CASES = 5
"""Cases that a claim needs. In a sign test n cases that all favour it have probability 1/2^n under "no effect",
and the first n with 1/2^n <= 1 - `CONFIDENCE` is 5 (1/32; with 4 it is 1/16)."""

_ELEMENTS = 1_000_000  # of a block of resamples, which keeps memory near 10 MB whatever the number of cases

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its one-sided lower and upper bounds."""

    estimate: float = nan
    low: float = nan
    high: float = nan


def bootstrap_means(values: ArrayLike, seed: int = SEED) -> Floats:
    """Means of `RESAMPLES` samples of cases drawn with replacement from `values` [cases].

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 6.
    """
    x = np.asarray(values, dtype=np.float64)
    return np.concatenate([x[drawn].mean(axis=1) for drawn in _draws(x.size, seed)])


def percentile_bounds(estimate: float, resampled: Floats, cases: int) -> Interval:
    """The percentile interval (Efron & Tibshirani 1993, section 13.3); bounds are NaN below `MIN_CASES` cases."""
    if cases < MIN_CASES:
        return Interval(estimate)
    low, high = np.quantile(resampled, (1 - CONFIDENCE, CONFIDENCE))
    return Interval(estimate, float(low), float(high))


def geometric_speedup(ratios: Sequence[ArrayLike], seed: int = SEED) -> Interval:
    """Geometric mean of paired ratios, over a case's rounds first and then over the cases.

    `ratios` holds for each case the ratios baseline time / candidate time of its rounds. The geometric mean is the
    only mean of normalised times that does not depend on which arm is the reference: Fleming & Wallace, "How not to
    lie with statistics", CACM 29(3), 1986. Bounds by bootstrap over the cases.
    """
    logs = np.array([np.log(np.asarray(case, dtype=np.float64)).mean() for case in ratios])
    if logs.size == 0:
        return Interval()
    found = percentile_bounds(float(logs.mean()), bootstrap_means(logs, seed), logs.size)
    return Interval(exp(found.estimate), exp(found.low), exp(found.high))


def time_reduction_pct(speedup: Interval) -> Interval:
    """Percentage of the baseline's time that is saved, 100 (1 - 1 / speedup); it rises with the speedup."""
    return Interval(*(100 * (1 - 1 / s) for s in (speedup.estimate, speedup.low, speedup.high)))


def paired_difference(candidate: ArrayLike, baseline: ArrayLike, seed: int = SEED) -> Interval:
    """Mean over cases of candidate - baseline [cases], with bounds by bootstrap over the pairs.

    For non-inferiority the lower bound is held against the margin: ICH E9 (1998), section 3.3.2.
    """
    differences = np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if differences.size == 0:
        return Interval()
    return percentile_bounds(float(differences.mean()), bootstrap_means(differences, seed), differences.size)


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Unweighted mean of the F1 scores of the classes that occur in truth or prediction; NaN without cases.

    Equal to scikit-learn's ``f1_score(truth, predicted, average="macro", zero_division=0)``. A class's F1 is
    2 TP / (2 TP + FP + FN): van Rijsbergen, Information Retrieval (1979), chapter 7.
    """
    t, p = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    return float(_macro_f1(_cells(t, p), np.ones((1, t.size)))[0]) if t.size else nan


def macro_f1_difference(truth: ArrayLike, candidate: ArrayLike, baseline: ArrayLike, seed: int = SEED) -> Interval:
    """Macro-F1 of the candidate minus that of the baseline on the same cases, with bounds by bootstrap over cases.

    In each resample both are computed afresh over the classes that occur in it.
    """
    t, c, b = (np.asarray(labels, dtype=np.int64) for labels in (truth, candidate, baseline))
    if t.size == 0:
        return Interval()
    of_candidate, of_baseline = _cells(t, c), _cells(t, b)
    resampled = [
        _macro_f1(of_candidate, counts) - _macro_f1(of_baseline, counts)
        for counts in (_counts(drawn) for drawn in _draws(t.size, seed))
    ]
    return percentile_bounds(macro_f1(t, c) - macro_f1(t, b), np.concatenate(resampled), t.size)


def median(values: ArrayLike) -> float:
    """The middle value; NaN without values."""
    return percentile(values, 50)


def p95(values: ArrayLike) -> float:
    """The value that 95 % do not exceed, linearly interpolated; NaN without values."""
    return percentile(values, 95)


def percentile(values: ArrayLike, percent: float) -> float:
    """A percentile by linear interpolation: Hyndman & Fan, The American Statistician 50(4), 1996, type 7."""
    x = np.asarray(values, dtype=np.float64)
    return float(np.percentile(x, percent)) if x.size else nan


def _draws(cases: int, seed: int) -> Iterator[Ints]:
    """`RESAMPLES` rows [resamples, cases] of case numbers drawn with replacement, in blocks."""
    generator = np.random.default_rng(seed)
    block = max(1, _ELEMENTS // max(1, cases))
    for start in range(0, RESAMPLES, block):
        yield generator.integers(cases, size=(min(block, RESAMPLES - start), cases))


def _counts(drawn: Ints) -> Floats:
    """How often each case was drawn: [resamples, cases] of case numbers to [resamples, cases] of counts."""
    rows, cases = drawn.shape
    flat = (drawn + cases * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * cases).reshape(rows, cases).astype(np.float64)


def _cells(truth: Ints, predicted: Ints) -> Floats:
    """What each case adds for each class: true positive, truth, prediction. [3, cases, classes] of 0 and 1."""
    classes = np.union1d(truth, predicted)
    t, p = truth[:, None] == classes, predicted[:, None] == classes
    return np.stack([t & p, t, p]).astype(np.float64)


def _macro_f1(cells: Floats, counts: Floats) -> Floats:
    """Macro-F1 [resamples] of cases weighted by `counts` [resamples, cases]."""
    hits, truths, predictions = (counts @ cell for cell in cells)  # each [resamples, classes]
    occurrences = truths + predictions  # 2 TP + FP + FN
    f1 = np.divide(2 * hits, occurrences, out=np.zeros_like(hits), where=occurrences > 0)
    scores: Floats = f1.sum(axis=1) / (occurrences > 0).sum(axis=1)
    return scores
