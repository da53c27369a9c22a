"""Launches of the processes: what each adds to the times of all its cases, as far as common cases show it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Launches:
    """What each launch of the processes adds to all cases, as far as cases that several launches ran show it.

    Attributes:
        effects: of each, less the mean over the launches that it is joined with by cases [launches].
        freedom: degrees of freedom of their variance: launches less groups of them, each joined by cases in common.
        variance_of_mean: of what they add to the mean over the cases; 0 where no case was run by two.
    """

    effects: Floats
    freedom: int
    variance_of_mean: float

    @classmethod
    def of(cls, y: Floats) -> "Launches":
        """Of `y` [cases, launches, rounds], each case of which was run once at least."""
        cells = nan_median(y)
        ran = np.isfinite(cells)
        group = _groups(ran)
        by_several = ran.sum(axis=1) > 1
        effects = np.zeros(ran.shape[1])
        if by_several.any():
            compared = ran[by_several].any(axis=0)
            apart = cells[by_several] - _levels(cells[by_several], ran[by_several])[:, None]
            effects[compared] = nan_median(apart[:, compared].T)
        own = [np.flatnonzero(group == each) for each in range(group.max() + 1)]
        for launches in own:
            effects[launches] -= effects[launches].mean()
        freedom = len(effects) - len(own)
        if not freedom:
            return cls(effects, 0, 0.0)
        variance = float(effects.var(ddof=len(own)))
        of_means = (variance * ran[:, launches].any(axis=1).mean() ** 2 / len(launches) for launches in own)
        return cls(effects, freedom, float(sum(of_means)))


def joined(values: ArrayLike) -> int:
    """How many launches of `values` [cases, launches, rounds] cases join, so that they show how launches differ.

    Where no case was run by two launches it is 1; launches in several groups count as far as each group joins its own.
    """
    y = np.asarray(values, dtype=np.float64)
    return 1 + Launches.of(y).freedom if y.size else 0


def nan_median(values: Floats) -> Floats:
    """The median along the last axis of those that are not NaN; NaN where all are.

    As `np.nanmedian`, which takes thirty times as long on arrays of this size: through masked arrays.
    """
    ascending = np.sort(values, axis=-1)  # NaN last
    number = np.isfinite(values).sum(axis=-1, keepdims=True)
    middle = [np.take_along_axis(ascending, place, axis=-1) for place in (np.maximum(number - 1, 0) // 2, number // 2)]
    medians: Floats = ((middle[0] + middle[1]) / 2)[..., 0]
    return medians


def _groups(ran: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of the group of each launch [launches]: launches that ran a case in common are in one."""
    joined_by_cases = np.eye(ran.shape[1], dtype=bool) | (ran.T @ ran)
    for _ in range(ran.shape[1].bit_length()):
        joined_by_cases = joined_by_cases @ joined_by_cases  # by twice as many steps
    groups: NDArray[np.int64] = np.unique(joined_by_cases.argmax(axis=1), return_inverse=True)[1]
    return groups


def _levels(cells: Floats, ran: NDArray[np.bool_]) -> Floats:
    """The level of each case [cases] in an additive layout of cases and launches, by least squares.

    The normal equations without the cases, whose matrix is the Laplacian of the launches that cases join (Searle,
    Casella & McCulloch, Variance Components, 1992, section 4.4). Where every launch has every case it is their mean.
    """
    filled, weights = np.where(ran, cells, 0.0), ran.astype(np.float64)
    number = weights.sum(axis=1)
    means = filled.sum(axis=1) / number
    laplacian = np.diag(weights.sum(axis=0)) - weights.T @ (weights / number[:, None])
    effects = np.linalg.pinv(laplacian, hermitian=True) @ (filled - weights * means[:, None]).sum(axis=0)
    levels: Floats = means - (weights @ effects) / number
    return levels
