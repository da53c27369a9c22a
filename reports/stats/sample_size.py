"""How many cases and rounds a claim needs, from the variances that a pilot shows. A forecast, and no result.

A pilot of few cases knows its variances only roughly: the true standard deviation lies between 0.65 and 2.4 times what
5 cases show (90 % interval, by the chi-squared distribution).
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import scipy
from numpy.typing import ArrayLike

from reports.stats.bootstrap import CONFIDENCE, MIN_CASES, satterthwaite
from reports.stats.power import POWER

MOST_CASES = 2000  # beyond that a number says only that there are not enough


@dataclass(frozen=True, kw_only=True)
class Components:
    """The variances of a log ratio: between cases, between launches of the processes, and of a single round."""

    cases: float
    launches: float
    rounds: float


def components(values: ArrayLike) -> Components | None:
    """The variance components of `values` [cases, launches], a round each; None below two of either.

    A two-way crossed layout without interaction, by the analysis of variance: Searle, Casella & McCulloch, Variance
    Components (1992), section 4.3. What comes out below 0 is 0.
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 2 or min(y.shape) < 2:
        return None
    cases, launches = y.shape
    by_case, by_launch = y.mean(axis=1), y.mean(axis=0)
    rest = y - by_case[:, None] - by_launch + y.mean()
    rounds = float((rest**2).sum()) / ((cases - 1) * (launches - 1))
    return Components(
        cases=max(0.0, float(by_case.var(ddof=1)) - rounds / launches),
        launches=max(0.0, float(by_launch.var(ddof=1)) - rounds / cases),
        rounds=rounds,
    )


def mean_variance(
    parts: Components, cases: int, rounds: int, launches: int, repeated: int | None = None
) -> tuple[float, float]:
    """The expected variance of a mean log ratio, and its degrees of freedom.

    As `reports.stats.bootstrap.of_crossed` has both: cases and launches vary, and each launch has its share of the
    `rounds`. So many cases are `repeated` in every launch, all by default; each of the others runs in one alone, which
    says nothing of how launches differ.
    """
    repeated = cases if repeated is None else repeated
    of_round = parts.rounds / rounds * (repeated + launches * (cases - repeated)) / cases
    of_cases = (parts.cases + of_round) / cases
    of_launches = parts.launches / launches + parts.rounds / rounds / repeated if launches > 1 else 0.0
    return of_cases + of_launches, satterthwaite(of_cases, cases - 1, of_launches, launches - 1)


def least_gain(parts: Components, cases: int, rounds: int, launches: int, repeated: int | None = None) -> float:
    """By how much a mean log ratio must exceed a bound, for `CONFIDENCE` to show that it does with `POWER`.

    (t_confidence + t_power) sqrt(variance), as in `reports.stats.power.detectable_drop`.
    """
    variance, freedom = mean_variance(parts, cases, rounds, launches, repeated)
    return float(scipy.stats.t.ppf(CONFIDENCE, freedom) + scipy.stats.t.ppf(POWER, freedom)) * sqrt(variance)


def least_kept(deviation: float, cases: int) -> float:
    """How far a mean score must be from its margin, for `cases` with this standard deviation to show that it is kept.

    As `reports.stats.power.detectable_drop`.
    """
    t = scipy.stats.t(cases - 1)
    return float(t.ppf(CONFIDENCE) + t.ppf(POWER)) * deviation / sqrt(cases)


def fewest(gain: float, least: Callable[[int], float], numbers: range) -> int | None:
    """The first of `numbers`, of cases or of rounds, with which the `least` gain that is shown is at most `gain`.

    `least` falls as the number grows. None where the last is too few.
    """
    at = bisect_left(numbers, True, key=lambda number: least(number) <= gain)
    return numbers[at] if at < len(numbers) else None


CASES = range(MIN_CASES, MOST_CASES + 1)
