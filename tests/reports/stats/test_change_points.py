"""Change points: found where they are, alarms as rare as promised, and what a single odd run is."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from reports.stats.bootstrap import Interval
from reports.stats.change_points import ALPHA, LEAST, LEAST_PART, band, change_points, log_error

ROOT = Path(__file__).resolve().parents[3]
ALIKE = 0.01  # the error of every value


def noisy(runs: int, seed: int = 0, sd: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, runs)


def found(values: np.ndarray, errors: np.ndarray | float = ALIKE) -> list[int]:
    return [change.index for change in change_points(values, np.broadcast_to(errors, np.shape(values)))]


def test_a_step_is_found_where_it_is_with_its_size() -> None:
    values = noisy(20)
    values[12:] -= 0.1
    (change,) = change_points(values, np.full(20, ALIKE))
    assert (change.index, change.p < ALPHA) == (12, True)
    assert change.change.estimate == pytest.approx(values[12:].mean() - values[:12].mean())
    expected = stats.ttest_ind(values[12:], values[:12], equal_var=False, alternative="less")
    assert change.change.high == pytest.approx(expected.confidence_interval(0.95).high)
    assert change.change.low < -0.1 < change.change.high < 0


def test_the_place_is_that_of_the_largest_t_statistic() -> None:
    """Of two samples with a common variance; weights that are alike change nothing."""
    for seed in range(5):
        values = noisy(24, seed)
        values[15:] += 0.03
        places = range(LEAST_PART, 24 - LEAST_PART + 1)
        largest = max(places, key=lambda k, v=values: abs(stats.ttest_ind(v[:k], v[k:]).statistic))
        assert found(values) == [largest]


def test_the_p_value_is_the_share_of_orders_that_part_as_well() -> None:
    """Five small values and five large ones: of all orders 2 / (10 choose 5) keep them apart."""
    values = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 10.0, 10.1, 10.2, 10.3, 10.4])
    (change,) = change_points(values, np.full(10, np.nan))
    assert change.p == pytest.approx(2 / 252, abs=3 * np.sqrt(2 / 252 / 9_999))


def test_several_steps_are_found() -> None:
    values = noisy(40)
    values[12:] += 0.1
    values[28:] -= 0.2
    assert found(values) == [12, 28]


def test_too_few_values_have_no_change() -> None:
    step = np.array([*noisy(5), *(noisy(LEAST - 6) - 1)])
    assert step.size == LEAST - 1
    assert found(step) == []
    assert found(np.array([*step, -1.001])) == [5]


@pytest.mark.parametrize("place", [0, 7, 19])
def test_a_single_odd_value_is_no_change(place: int) -> None:
    values = noisy(20)
    values[place] -= 0.5
    assert found(values) == []


def test_equal_values_have_no_change() -> None:
    assert found(np.zeros(30)) == []


def test_values_that_were_measured_badly_count_less() -> None:
    """Four values that are off by their own error: without it they look like a new level."""
    values, errors = noisy(20, sd=0.002), np.full(20, 0.002)
    values[16:] += 0.03
    assert found(values, errors) == [16]
    errors[16:] = 0.03
    assert found(values, errors) == []
    assert found(values, np.nan) == [16], "all count alike where errors are not known"


def test_alarms_are_as_rare_as_promised_and_steps_are_found() -> None:
    """A short form of `scripts/validity/history_alarms.py`: looks after each of 20 runs."""
    experiment = runpy.run_path(str(ROOT / "scripts/validity/history_alarms.py"))["experiment"]
    for noise in ("normal", "odd runs"):
        none = experiment(noise, 0.01, 0, series=60, runs=20, seed=1)
        assert none.any_look <= 6, "of 60; were it more than 5 % in truth, up to 6 would still be seen often"
    step = experiment("normal", 0.01, 10, series=20, runs=20, seed=1)
    assert len(step.delays) == 20
    assert max(step.delays) <= 4


def test_the_band_holds_as_many_further_values_as_it_says() -> None:
    chance, inside = np.random.default_rng(0), 0
    for _ in range(1000):
        values = chance.normal(0, 1, 13)
        values[8:] += 5
        levels = band(values[:12], (0, 8))
        inside += levels[1].low <= values[12] <= levels[1].high
        assert levels[0].estimate == pytest.approx(values[:8].mean())
    assert 930 <= inside <= 970


def test_without_repeated_values_there_is_no_band() -> None:
    (level,) = band([1.0], (0,))
    assert level.estimate == 1
    assert np.isnan([level.low, level.high]).all()


def test_the_error_of_a_speedup_is_read_from_its_bounds() -> None:
    bounds = np.exp(np.log(2) + np.array([0, -1, 1]) * 0.01 * stats.norm.ppf(0.95))
    assert log_error(Interval(*bounds)) == pytest.approx(0.01)
    assert np.isnan(log_error(Interval(2.0)))
