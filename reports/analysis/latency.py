"""How long a case takes: over all samples, between cases, and with the size of the volume."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import scipy

from reports.records.record import Sample
from reports.stats.scores import median, percentile

FEWEST_SIZES = 3  # distinct numbers of tiles: through two points goes every line


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds a case, over all its samples: the median and percentiles."""

    median: float = nan
    p90: float = nan
    p95: float = nan
    p99: float = nan


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far the cases lie apart, by the median seconds of each: the extremes and the coefficient of variation."""

    fastest_s: float = nan
    slowest_s: float = nan
    variation: float = nan


@dataclass(frozen=True, kw_only=True)
class TileFit:
    """Seconds of a case as a straight line over its forward tiles, by least squares over the cases' medians.

    Attributes:
        intercept_s: what a case costs without any tile; `slope_s`: each tile. r2: share of the variance explained.
        sizes: distinct numbers of tiles; below `FEWEST_SIZES` nothing is fitted. 0 of samples from several shards.
    """

    intercept_s: float = nan
    slope_s: float = nan
    r2: float = nan
    sizes: int = 0


def latency(seconds: Sequence[float]) -> Latency:
    """Of a variant's samples; NaN without any."""
    p90, p95, p99 = (percentile(seconds, percent) for percent in (90, 95, 99))
    return Latency(median=median(seconds), p90=p90, p95=p95, p99=p99)


def spread(samples: Sequence[Sample]) -> Spread:
    """Between the cases of a variant's samples; the variation is NaN below two of them."""
    seconds = list(_medians_by_case(samples, lambda sample: sample.case_ns / 1e9).values())
    if not seconds:
        return Spread()
    variation = float(scipy.stats.variation(seconds, ddof=1)) if len(seconds) > 1 else nan
    return Spread(fastest_s=min(seconds), slowest_s=max(seconds), variation=variation)


def tile_fit(samples: Sequence[Sample]) -> TileFit:
    """Of a variant's samples, unless they are of several machines, each of which has a line of its own."""
    if len({sample.shard for sample in samples}) > 1:
        return TileFit()
    seconds = _medians_by_case(samples, lambda sample: sample.case_ns / 1e9)
    tiles = _medians_by_case(samples, lambda sample: sample.tiles)
    sizes = len(set(tiles.values()))
    if sizes < FEWEST_SIZES:
        return TileFit(sizes=sizes)
    line = scipy.stats.linregress([tiles[case] for case in seconds], list(seconds.values()))
    return TileFit(intercept_s=float(line.intercept), slope_s=float(line.slope), r2=float(line.rvalue**2), sizes=sizes)


def _medians_by_case(samples: Sequence[Sample], value: Callable[[Sample], float]) -> dict[str, float]:
    """Medians over a case's samples."""
    values: dict[str, list[float]] = {}
    for sample in samples:
        values.setdefault(sample.case, []).append(value(sample))
    return {case: float(np.median(of_case)) for case, of_case in values.items()}
