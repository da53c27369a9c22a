"""Case times: percentiles, spread between cases, dependence on the number of tiles."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from reports.analysis.latency import latency, spread, tile_fit
from reports.records.record import INTERLEAVED, Sample


def timed(cases: dict[str, tuple[int, Sequence[float]]]) -> list[Sample]:
    """Samples of cases: their tiles, and the seconds of each round."""
    return [
        Sample(INTERLEAVED, i, case, round(s * 1e9), {}, None, tiles, 0, 0.0, 0)
        for case, (tiles, seconds) in cases.items()
        for i, s in enumerate(seconds)
    ]


def test_percentiles_are_numpys() -> None:
    seconds = np.random.default_rng(0).gamma(2.0, size=50).tolist()
    times = latency(seconds)
    assert [times.median, times.p90, times.p95, times.p99] == pytest.approx(np.percentile(seconds, [50, 90, 95, 99]))


def test_cases_spread_by_their_medians() -> None:
    times = spread(timed({"a": (1, [1.0, 1.0, 9.0]), "b": (1, [2.0]), "c": (1, [3.0, 3.0])}))
    assert (times.fastest_s, times.slowest_s, times.variation) == pytest.approx((1.0, 3.0, 0.5))
    assert math.isnan(spread(timed({"a": (1, [1.0])})).variation)


def test_a_line_through_the_cases_is_scipys() -> None:
    tiles, seconds = [4, 8, 8, 18], [1.0, 1.7, 1.9, 3.9]
    times = tile_fit(timed({f"c{i}": (n, [s, s, 50.0]) for i, (n, s) in enumerate(zip(tiles, seconds, strict=True))}))
    theirs = stats.linregress(tiles, seconds)
    assert (times.slope_s, times.intercept_s, times.r2, times.sizes) == pytest.approx(
        (theirs.slope, theirs.intercept, theirs.rvalue**2, 3)
    )


def test_two_sizes_are_not_fitted() -> None:
    times = tile_fit(timed({"a": (4, [1.0]), "b": (8, [2.0]), "c": (8, [2.1])}))
    assert (times.sizes, math.isnan(times.slope_s)) == (2, True)
