"""What so many cases could have shown: without it "no difference" on a few of them would read as proof."""

from math import ceil, log, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from reports.stats.bootstrap import ALPHA, CONFIDENCE

POWER = 0.80  # of detecting a loss that is there: the customary one (ICH E9, 1998, section 3.5, has 80 to 90 %)
LOST_SHARE = 0.10
"""Share of the cases whose class is lost that a macro-F1 must be able to show before it counts as kept. Half of it
would take 32 cases; with twice as much, 8 would do, which one flip in five could pass unseen."""


def detectable_drop(differences: ArrayLike) -> float:
    """The smallest mean loss that a one-sided t-test at `CONFIDENCE` on `differences` [cases] finds with `POWER`.

    (t_{n-1, confidence} + t_{n-1, power}) s / sqrt(n): Julious, "Sample sizes for clinical trials with Normal data",
    Statistics in Medicine 23(12), 2004. NaN below two cases.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.size < 2:
        return nan
    quantiles = stdtrit(d.size - 1, CONFIDENCE) + stdtrit(d.size - 1, POWER)
    return float(quantiles * d.std(ddof=1) / sqrt(d.size)) if np.ptp(d) > 1e-12 else 0.0  # which is rounding


def detectable_share(cases: int) -> float:
    """The smallest share p of lost cases of which `cases` show at least one with `POWER`: 1 - (1 - p)^n = power.

    It is the reasoning behind the upper limit of Clopper & Pearson, Biometrika 26(4), 1934, where none was seen.
    """
    return 1 - (1 - POWER) ** (1 / cases) if cases else nan


def cases_to_detect(share: float) -> int:
    """The fewest cases whose `detectable_share` is at most `share`."""
    return ceil(log(1 - POWER) / log(1 - share))


def cases_to_bound(share: float) -> int:
    """The fewest cases none of which is lost, so that the upper bound of the lost ones' share is at most `share`."""
    return ceil(log(ALPHA) / log(1 - share))


ENOUGH_FOR_F1 = cases_to_detect(LOST_SHARE)  # 16
