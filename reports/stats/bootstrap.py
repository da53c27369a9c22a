"""The bootstrap over cases: bounds and p-values, seeded, so that a run's files always give the same answer.

The patient is the unit: whatever is resampled, a case goes with all its rounds and with both variants of its pair.
Bounds are NaN with fewer than `MIN_CASES` cases.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from reports.stats.launches import Floats, Launches, nan_median

CONFIDENCE = 0.95
ALPHA = 0.05  # 1 - CONFIDENCE, without the rounding of that difference
RESAMPLES = 10_000
SEED = 0  # fixed, so that nobody can shop for a favourable one
MIN_CASES = 5
"""Cases that a claim needs. In a sign test n cases that all favour it have probability 1/2^n under "no effect",
and the first n with 1/2^n <= 1 - `CONFIDENCE` is 5 (1/32; with 4 it is 1/16)."""

_ELEMENTS = 1_000_000  # of a block of resamples, which keeps memory near 10 MB whatever the number of cases

Seed = int | tuple[int, ...]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its one-sided lower and upper bounds at `CONFIDENCE`: together they enclose 90 %."""

    estimate: float = nan
    low: float = nan
    high: float = nan


@dataclass(frozen=True)
class Bootstrap:
    """An estimate and what it came to in resamples of its cases.

    A bound is a percentile of the resamples (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3)
    at a level that is expanded for few cases, Phi(-sqrt(n / (n - 1)) t), with t the quantile of Student's distribution
    (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4), 2015); or the
    estimate less sqrt(n / (n - 1)) t standard deviations of the resamples, which for a mean is the t-interval:
    whichever claims less. The first follows a skewed distribution, the second reaches further out than resamples do.

    Attributes:
        resampled: the estimate in each resample, ascending [resamples]; empty without cases.
        cases: how many were resampled.
        freedom: degrees of freedom; n - 1 unless the launches of the processes vary too.
        shards: whose cases and launches these are, each on a machine of its own; 0 where there is one machine.
            `error_of_shards`: standard error of the estimate by the shards' own means. A bound is also Student's by
            these alone, if that claims less.
    """

    estimate: float = nan
    resampled: Floats = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    cases: int = 0
    freedom: float = nan
    shards: int = 0
    error_of_shards: float = 0.0

    @classmethod
    def of(cls, estimate: float, resampled: Floats, cases: int, freedom: float | None = None) -> "Bootstrap":
        """Of resamples in any order."""
        return cls(estimate, np.sort(resampled), cases, cases - 1 if freedom is None else freedom)

    @property
    def interval(self) -> Interval:
        """The estimate with its bounds at `CONFIDENCE`."""
        return Interval(self.estimate, self.low(ALPHA), self.high(ALPHA))

    def low(self, alpha: float) -> float:
        """The one-sided lower bound with error rate `alpha` < 0.5; NaN below `MIN_CASES` cases."""
        if self.cases < MIN_CASES:
            return nan
        z = self._z(alpha)
        own = min(float(np.quantile(self.resampled, ndtr(-z))), self.estimate - z * self._deviation)
        return min(own, self.estimate - self._reach_of_shards(alpha))

    def high(self, alpha: float) -> float:
        """The one-sided upper bound, likewise."""
        if self.cases < MIN_CASES:
            return nan
        z = self._z(alpha)
        own = max(float(np.quantile(self.resampled, ndtr(z))), self.estimate + z * self._deviation)
        return max(own, self.estimate + self._reach_of_shards(alpha))

    def p_at_most(self, value: float) -> float:
        """The p-value of "it is at most `value`": the smallest alpha whose lower bound reaches `value`.

        So ``low(alpha) >= value`` exactly when ``p_at_most(value) <= alpha``. NaN below `MIN_CASES` cases.
        """
        if self.cases < MIN_CASES:
            return nan
        above = self.estimate - value
        z = min(self._z_of_percentile(value), _ratio(above, self._deviation))
        own = float(stdtr(self.freedom, -z / self._expansion))
        if self.shards < 2:
            return own
        return max(own, float(stdtr(self.shards - 1, -_ratio(above, self.error_of_shards))))

    def _reach_of_shards(self, alpha: float) -> float:
        """How far from the estimate the bound lies by the shards' own means."""
        return -float(stdtrit(self.shards - 1, alpha)) * self.error_of_shards if self.shards > 1 else 0.0

    def _z_of_percentile(self, value: float) -> float:
        """How far out, as a normal quantile, the percentile lies that equals `value`: the inverse of `np.quantile`."""
        after = int(np.searchsorted(self.resampled, value))
        if after in (0, len(self.resampled)):
            return -inf if after else inf
        lower, upper = self.resampled[after - 1 : after + 1]  # between which np.quantile interpolates linearly
        place = (after - 1 + (value - lower) / (upper - lower)) / (len(self.resampled) - 1)
        return -float(ndtri(place))

    def _z(self, alpha: float) -> float:
        return -self._expansion * float(stdtrit(self.freedom, alpha))

    @property
    def _expansion(self) -> float:
        return sqrt(self.cases / (self.cases - 1))

    @cached_property
    def _deviation(self) -> float:
        return float(self.resampled.std())


def _ratio(above: float, error: float) -> float:
    return above / error if error else inf if above >= 0 else -inf


def resampled_means(values: ArrayLike, seed: Seed = SEED) -> Floats:
    """Means of `RESAMPLES` samples of cases drawn with replacement from `values` [cases].

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 6.
    """
    x = np.asarray(values, dtype=np.float64)
    return np.concatenate([x[drawn].mean(axis=1) for drawn in _draws(x.size, seed)])


def of_mean(values: ArrayLike, seed: int = SEED) -> Bootstrap:
    """The mean of `values` [cases]."""
    x = np.asarray(values, dtype=np.float64)
    return Bootstrap.of(float(x.mean()), resampled_means(x, seed), x.size) if x.size else Bootstrap()


def of_crossed(values: ArrayLike, seed: int = SEED) -> Bootstrap:
    """The mean over cases of `values` [cases, launches, rounds], and each launch may shift its own.

    NaN where a case was not run. A launch's effect is the median over the cases of what lies between it and the case's
    level: the mean over the launches, or where not every launch has every case, that by least squares. A case's value
    is the median of all its rounds with the effects of their launches taken off. These are the steps of a median polish
    (Tukey, Exploratory Data Analysis, 1977), so that an outlier hardly counts.
    Resamples draw the cases, and add a normal draw of the launches' mean effect, whose variance is that of the effects
    over their number (a hierarchical bootstrap whose upper level is parametric, since so few launches cannot be drawn
    from: Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Degrees of freedom are
    Satterthwaite's. Launches without a case in common show no effect, just as a single launch: then this is `of_mean`
    of the cases' medians.
    """
    y = np.asarray(values, dtype=np.float64)
    y = y[np.isfinite(y).any(axis=(1, 2))] if y.size else y
    if not y.size:
        return Bootstrap()
    launches = Launches.of(y)
    by_case = _case_values(y, launches)
    resampled, variance = resampled_means(by_case, seed), launches.variance_of_mean
    if variance:
        resampled = resampled + np.random.default_rng((seed, 1)).normal(0, sqrt(variance), RESAMPLES)
    freedom = satterthwaite(_variance_of_mean(by_case), len(y) - 1.0, variance, launches.freedom)
    return Bootstrap.of(float(by_case.mean()), resampled, len(y), freedom)


def of_shards(shards: Sequence[ArrayLike], seed: int = SEED) -> Bootstrap:
    """The mean over the cases of all `shards`, each [cases, launches, rounds] of cases and launches of its own.

    Each shard ran on a machine that may shift all of it. Resamples draw the cases within their shard and add a normal
    draw of what the launches do to the mean, all as in `of_crossed`, with degrees of freedom by `joint_freedom`. Beside
    these, bounds keep to Student's interval of the shards' own means with a degree of freedom less than shards: in a
    two-stage sample the variance between the first units alone covers all stages below (Cochran, Sampling Techniques,
    3rd edition, 1977, chapter 10). What claims less counts. The sum of both variances with Satterthwaite's degrees of
    freedom would not do: where few machines lie together by chance it takes their variance for known.
    A single shard shows no variance between shards: then this is `of_crossed` of it.
    """
    arrays = [np.asarray(each, dtype=np.float64) for each in shards]
    run = [y for each in arrays if each.size and len(y := each[np.isfinite(each).any(axis=(1, 2))])]
    if len(run) < 2:
        return of_crossed(run[0], seed) if run else Bootstrap()
    launches = [Launches.of(y) for y in run]
    by_case = [_case_values(y, own) for y, own in zip(run, launches, strict=True)]
    cases = sum(map(len, run))
    shares = [len(y) / cases for y in run]
    drawn = [s * resampled_means(y, (seed, 2, i)) for i, (s, y) in enumerate(zip(shares, by_case, strict=True))]
    resampled: Floats = np.sum(drawn, axis=0)
    of_cases = [(s**2 * _variance_of_mean(y), len(y) - 1.0) for s, y in zip(shares, by_case, strict=True)]
    of_launches = [(s**2 * own.variance_of_mean, own.freedom) for s, own in zip(shares, launches, strict=True)]
    if variance := sum(own for own, _ in of_launches):
        resampled = resampled + np.random.default_rng((seed, 1)).normal(0, sqrt(variance), RESAMPLES)
    estimate, freedom = float(np.concatenate(by_case).mean()), joint_freedom([*of_cases, *of_launches], cases - 1)
    means = np.array([values.mean() for values in by_case])
    error = sqrt(float(means.var(ddof=1)) * sum(share**2 for share in shares))
    return Bootstrap(estimate, np.sort(resampled), cases, freedom, shards=len(run), error_of_shards=error)


def _variance_of_mean(values: Floats) -> float:
    """0 of a single value, which shows none."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def of_cases(values: ArrayLike) -> Floats:
    """The value of each case [cases] that `of_crossed` takes the mean of; NaN where it was not run."""
    y = np.asarray(values, dtype=np.float64)
    of_each = np.full(len(y), nan)
    run = np.isfinite(y).any(axis=(1, 2))
    if run.any():
        of_each[run] = _case_values(y[run], Launches.of(y[run]))
    return of_each


def _case_values(y: Floats, launches: Launches) -> Floats:
    return nan_median((y - launches.effects[:, None]).reshape(len(y), -1))


def satterthwaite(of_cases: float, freedom: float, of_launches: float, freedom_of_launches: float) -> float:
    """Degrees of freedom of the sum of two estimated variances, of means over cases and launches; at most `freedom`.

    Source: Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 2(6),
    1946.
    """
    if not of_launches:
        return freedom
    return joint_freedom([(of_cases, freedom), (of_launches, freedom_of_launches)], freedom)


def joint_freedom(parts: Sequence[tuple[float, float]], most: float) -> float:
    """The same of the sum of any number of estimated variances, each with its degrees of freedom; at most `most`."""
    known = [(variance, freedom) for variance, freedom in parts if variance]
    if not known:
        return most
    return min(sum(own for own, _ in known) ** 2 / sum(own**2 / freedom for own, freedom in known), most)


def resampled_counts(cases: int, seed: int = SEED) -> Iterator[Floats]:
    """How often each case is in each of `RESAMPLES` samples: blocks of [resamples, cases]."""
    return (_counts(drawn) for drawn in _draws(cases, seed))


def _draws(cases: int, seed: Seed) -> Iterator[Ints]:
    """`RESAMPLES` rows [resamples, cases] of case numbers drawn with replacement, in blocks."""
    if cases * RESAMPLES <= _ELEMENTS:
        yield _one_block(cases, seed)
        return
    generator = np.random.default_rng(seed)
    block = max(1, _ELEMENTS // max(1, cases))
    for start in range(0, RESAMPLES, block):
        yield generator.integers(cases, size=(min(block, RESAMPLES - start), cases))


@lru_cache(maxsize=4)  # the variants of a run and their scores have the same cases
def _one_block(cases: int, seed: Seed) -> Ints:
    drawn = np.random.default_rng(seed).integers(cases, size=(RESAMPLES, cases))
    drawn.flags.writeable = False
    return drawn


def _counts(drawn: Ints) -> Floats:
    """How often each case was drawn: [resamples, cases] of case numbers to [resamples, cases] of counts."""
    rows, cases = drawn.shape
    flat = (drawn + cases * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * cases).reshape(rows, cases).astype(np.float64)
