"""Where the level of a series changed: the split that separates best, kept if chance hardly ever separates as well.

The series is split in two where the means differ most (the likelihood ratio of one step: Worsley, "On the Likelihood
Ratio Test for a Shift in Location of Normal Populations", JASA 74, 1979), and both parts are split again in the same
way (Scott & Knott, "A Cluster Analysis Method for Grouping Means in the Analysis of Variance", Biometrics 30(3), 1974).
A split counts if at most a share `ALPHA` of random orders of the same values is split as well, as in E-divisive
(Matteson & James, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data", JASA 109, 2014),
which finds regressions at MongoDB (Daly et al., "The Use of Change Point Detection to Identify Software Performance
Regressions in a Continuous Integration System", ICPE 2020) and at DataStax (Fleming et al., "Hunter: Using Change Point
Detection to Hunt for Performance Regressions", ICPE 2023). Nothing but the order is tested. So a series without a
change gives a false alarm with probability `ALPHA` at most, whatever the distribution of its noise, as long as the
noise of a value says nothing of the next one's.

Why no library finds them: Apache Otava, which was Hunter, pins NumPy to 2.2.0 and needs clients of data bases and of a
messenger; ruptures finds splits, and has no test of them. The permutations are SciPy's.
"""

from dataclasses import dataclass
from math import isfinite, log, nan, sqrt

import numpy as np
import scipy
from numpy.typing import ArrayLike

from reports.stats.bootstrap import CONFIDENCE, SEED, Interval, Ints
from reports.stats.launches import Floats
from reports.stats.scores import independent_difference

ALPHA = 0.01
"""Of one look at a series. Of a series that is looked at after each new run there are many looks, and this keeps the
alarms of all together within 5 % (`scripts/validity/history_alarms.py`)."""
LEAST_PART = 2
"""Values on either side of a change: a single odd one is none."""
LEAST = 10
"""Values that a series needs. Of n values, k of them on one side, 2 / (n choose k) of all orders are split as well as
the best that there can be: with 9 that is more than `ALPHA` for any k, with 10 less for 4, 5 and 6 (2/210, 2/252)."""
COVERAGE = 0.95  # of a band

_RESAMPLES = 9_999


@dataclass(frozen=True)
class ChangePoint:
    """A change of a series' level.

    Attributes:
        index: of the first value of the new level.
        p: the probability that a random order of the values is split as well.
        change: of the mean, new level less old one, with Welch's one-sided 95 % bounds. The place was chosen where the
            difference is large, so that the bounds are a little narrow.
    """

    index: int
    p: float
    change: Interval


def change_points(values: ArrayLike, errors: ArrayLike, resamples: int = _RESAMPLES) -> tuple[ChangePoint, ...]:
    """The changes in `values` [values], in their order; none in fewer than `LEAST`.

    `errors`: standard error of each value's own measurement [values]; NaN where one is not known, and then all values
    count alike.
    """
    y = np.asarray(values, dtype=np.float64)
    places = _splits(y, _weights(y, np.asarray(errors, dtype=np.float64)), 0, resamples)
    ends = [0, *(place for place, _ in places), y.size]
    return tuple(
        ChangePoint(place, p, independent_difference(y[ends[i] : place], y[place : ends[i + 2]]))
        for i, (place, p) in enumerate(places)
    )


def band(values: ArrayLike, starts: tuple[int, ...]) -> tuple[Interval, ...]:
    """The mean of each level, and the band in which its next value lies with probability `COVERAGE`.

    A prediction interval: mean -+ t s sqrt(1 + 1/n), with s pooled over the levels (Hahn & Meeker, Statistical
    Intervals, 1991, section 4.7). `values`: [values]; `starts`: index of each level's first value, 0 first. NaN bounds
    where no level has two values.
    """
    levels = np.split(np.asarray(values, dtype=np.float64), starts[1:])
    freedom = sum(level.size - 1 for level in levels)
    if not freedom:
        return tuple(Interval(float(level.mean()), nan, nan) for level in levels)
    spread = sqrt(sum(float(((level - level.mean()) ** 2).sum()) for level in levels) / freedom)
    half = float(scipy.stats.t.isf((1 - COVERAGE) / 2, freedom)) * spread
    means = [(float(level.mean()), half * sqrt(1 + 1 / level.size)) for level in levels]
    return tuple(Interval(mean, mean - width, mean + width) for mean, width in means)


def log_error(ratio: Interval) -> float:
    """The standard error of a log ratio, from the bounds of the ratio; NaN without them."""
    width = 2 * float(scipy.stats.norm.ppf(CONFIDENCE))
    return log(ratio.high / ratio.low) / width if isfinite(ratio.low) and ratio.low > 0 else nan


def _weights(values: Floats, errors: Floats) -> Floats:
    """What each value counts: 1 / (the variance between values + its own); alike where errors are not known.

    The variance between values is that of all less the mean of their own, at least 0: Hedges, "A random effects model
    for effect sizes", Psychological Bulletin 93(2), 1983. It does not depend on the order of the values, which leaves
    the test of the order exact.
    """
    if values.size < 2 or not np.isfinite(errors).all():
        return np.ones(values.size)
    variances = max(0.0, float(values.var(ddof=1) - np.mean(errors**2))) + errors**2
    return 1 / variances if (variances > 0).all() else np.ones(values.size)


def _splits(y: Floats, weights: Floats, offset: int, resamples: int) -> list[tuple[int, float]]:
    """Index, counted from `offset`, and p-value of each split, in their order."""
    if y.size < LEAST or not np.ptp(y):
        return []

    def separation(order: Ints, axis: int = -1) -> Floats:
        largest: Floats = _separations(np.moveaxis(order, axis, -1), y, weights).max(axis=-1)
        return largest

    test = scipy.stats.permutation_test(
        (np.arange(y.size),), separation, permutation_type="pairings", alternative="greater", vectorized=True,
        n_resamples=resamples, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    if test.pvalue > ALPHA:
        return []
    place = LEAST_PART + int(_separations(np.arange(y.size), y, weights).argmax())
    return [
        *_splits(y[:place], weights[:place], offset, resamples),
        (offset + place, float(test.pvalue)),
        *_splits(y[place:], weights[place:], offset + place, resamples),
    ]


def _separations(order: Ints, y: Floats, weights: Floats) -> Floats:
    """How far the means before and after each place lie apart, in standard errors, squared.

    [..., values] to [..., places], the first place after `LEAST_PART` values.
    """
    weight = np.cumsum(weights[order], axis=-1)
    total = np.cumsum((weights * y)[order], axis=-1)
    inner = np.s_[..., LEAST_PART - 1 : -LEAST_PART]
    before, after = weight[inner], weight[..., -1:] - weight[inner]
    apart = total[inner] / before - (total[..., -1:] - total[inner]) / after
    separations: Floats = apart**2 * before * after / weight[..., -1:]
    return separations
