"""Statistics over cases: pure functions of arrays, seeded, so that a run's files always give the same answer.

The patient is the unit; how bounds are made is described in `reports.stats.bootstrap`.
"""

from functools import lru_cache
from math import exp, nan

import numpy as np
import scipy
from numpy.typing import ArrayLike

from reports.stats.bootstrap import CONFIDENCE, Bootstrap, Interval, Ints, of_mean, resampled_counts
from reports.stats.launches import Floats


def exponential(log_ratio: Interval) -> Interval:
    """From a mean log ratio to the geometric mean of the ratios.

    It is the only mean of normalised times that does not depend on which variant is the reference: Fleming & Wallace,
    "How not to lie with statistics", CACM 29(3), 1986.
    """
    return Interval(exp(log_ratio.estimate), exp(log_ratio.low), exp(log_ratio.high))


def time_reduction_pct(speedup: Interval) -> Interval:
    """Percentage of the baseline's time that is saved, 100 (1 - 1 / speedup); it rises with the speedup."""
    return Interval(*(100 * (1 - 1 / s) for s in (speedup.estimate, speedup.low, speedup.high)))


def paired_difference(candidate: ArrayLike, baseline: ArrayLike) -> Interval:
    """Mean over cases of candidate - baseline [cases], with bounds by bootstrap over the pairs.

    For non-inferiority the lower bound is held against the margin: ICH E9 (1998), section 3.3.2.
    """
    differences = np.asarray(candidate, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    return _interval_of_mean(tuple(differences.tolist()))


def independent_difference(before: ArrayLike, after: ArrayLike) -> Interval:
    """Mean of `after` - mean of `before`, values of two samples without partners, with Welch's bounds (scipy's t-test).

    Without bounds where a sample has a single value; where neither varies the bounds are the difference.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (before, after))
    estimate = float(y.mean() - x.mean()) if x.size and y.size else nan
    if min(x.size, y.size) < 2:
        return Interval(estimate)
    if not (np.ptp(x) or np.ptp(y)):
        return Interval(estimate, estimate, estimate)
    bounds = scipy.stats.ttest_ind(y, x, equal_var=False).confidence_interval(2 * CONFIDENCE - 1)
    return Interval(estimate, float(bounds.low), float(bounds.high))


@lru_cache(maxsize=4096)  # many scores differ by nothing, and a report asks for each several times
def _interval_of_mean(differences: tuple[float, ...]) -> Interval:
    return of_mean(differences).interval


def proportion(count: int, cases: int) -> Interval:
    """The share `count` / `cases` with exact one-sided bounds: Clopper & Pearson, Biometrika 26(4), 1934."""
    if not cases:
        return Interval()
    bounds = scipy.stats.binomtest(count, cases).proportion_ci(2 * CONFIDENCE - 1, method="exact")
    return Interval(count / cases, float(bounds.low), float(bounds.high))


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Unweighted mean of the F1 scores of the classes that occur in truth or prediction; NaN without cases.

    Equal to scikit-learn's ``f1_score(truth, predicted, average="macro", zero_division=0)``. A class's F1 is
    2 TP / (2 TP + FP + FN): van Rijsbergen, Information Retrieval (1979), chapter 7.
    """
    t, p = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    return float(_macro_f1(_class_counts(t, p), np.ones((1, t.size)))[0]) if t.size else nan


def f1_by_class(truth: ArrayLike, predicted: ArrayLike) -> dict[int, float]:
    """The F1 score of each class that occurs in truth or prediction; their mean is `macro_f1`."""
    t, p = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    hits, truths, predictions = _class_counts(t, p).sum(axis=1)  # each [classes]
    f1 = 2 * hits / (truths + predictions)
    return {int(name): float(value) for name, value in zip(np.union1d(t, p), f1, strict=True)}


def macro_f1_difference(truth: ArrayLike, candidate: ArrayLike, baseline: ArrayLike) -> Interval:
    """Macro-F1 of the candidate minus that of the baseline on the same cases, with bounds by bootstrap over cases.

    In each resample both are computed afresh over the classes that occur in it.
    """
    labels = (tuple(np.asarray(each, dtype=np.int64).tolist()) for each in (truth, candidate, baseline))
    return _interval_of_f1(*labels)


@lru_cache(maxsize=1024)  # most variants flip no class
def _interval_of_f1(truth: tuple[int, ...], candidate: tuple[int, ...], baseline: tuple[int, ...]) -> Interval:
    t, c, b = (np.array(labels, dtype=np.int64) for labels in (truth, candidate, baseline))
    if t.size == 0:
        return Interval()
    of_candidate, of_baseline = _class_counts(t, c), _class_counts(t, b)
    resampled = [
        _macro_f1(of_candidate, counts) - _macro_f1(of_baseline, counts) for counts in resampled_counts(t.size)
    ]
    return Bootstrap.of(macro_f1(t, c) - macro_f1(t, b), np.concatenate(resampled), t.size).interval


def median(values: ArrayLike) -> float:
    """The middle value; NaN without values."""
    return percentile(values, 50)


def percentile(values: ArrayLike, percent: float) -> float:
    """A percentile by linear interpolation: Hyndman & Fan, The American Statistician 50(4), 1996, type 7."""
    x = np.asarray(values, dtype=np.float64)
    return float(np.percentile(x, percent)) if x.size else nan


def _class_counts(truth: Ints, predicted: Ints) -> Floats:
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
