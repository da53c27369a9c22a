"""The statistics against scipy and scikit-learn, and by coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from reports.stats import scores
from reports.stats.bootstrap import Interval, _counts, of_crossed
from reports.stats.scores import (
    exponential,
    f1_by_class,
    macro_f1,
    macro_f1_difference,
    median,
    paired_difference,
    percentile,
    time_reduction_pct,
)

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@settings(deadline=None)
@given(LABELS)
def test_macro_f1_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = zip(*pairs, strict=True)
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_each_resample_of_macro_f1_is_that_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, predicted, drawn = (generator.integers(k, size=s) for k, s in ((3, 12), (3, 12), (12, (40, 12))))
    result = scores._macro_f1(scores._class_counts(truth, predicted), _counts(drawn))
    expected = [f1_score(truth[row], predicted[row], average="macro", zero_division=0) for row in drawn]
    assert result == pytest.approx(expected)


@settings(deadline=None)
@given(LABELS)
def test_f1_of_a_class_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = zip(*pairs, strict=True)
    labels = sorted({*truth, *predicted})
    expected = f1_score(truth, predicted, labels=labels, average=None, zero_division=0)
    assert f1_by_class(truth, predicted) == pytest.approx(dict(zip(labels, expected, strict=True)))


def test_macro_f1_difference_is_that_of_scipys_paired_bootstrap() -> None:
    generator = np.random.default_rng(5)
    truth = np.arange(30) % 3
    baseline = np.where(generator.random(30) < 0.8, truth, (truth + 1) % 3)
    candidate = np.where(generator.random(30) < 0.7, truth, (truth + 2) % 3)

    def difference(t: np.ndarray, c: np.ndarray, b: np.ndarray) -> float:
        return macro_f1(t, c) - macro_f1(t, b)  # which the tests above hold against scikit-learn's, that takes long

    theirs = stats.bootstrap(
        (truth, candidate, baseline), difference, n_resamples=1500, confidence_level=0.90, method="percentile",
        paired=True, vectorized=False, rng=np.random.default_rng(6),
    )  # fmt: skip
    result = macro_f1_difference(truth, candidate, baseline)
    # ours are expanded for 30 cases: 4.4 % in place of 5 %, by less than the Monte-Carlo error of 1500 resamples
    assert result.estimate == pytest.approx(difference(truth, candidate, baseline))
    assert result.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert result.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_speedup_is_the_geometric_mean_of_the_cases() -> None:
    assert exponential(of_crossed(np.log([[[2.0]], [[8.0]]])).interval).estimate == pytest.approx(4.0)


def test_nothing_measured_gives_nan() -> None:
    for result in (
        of_crossed(np.empty((0, 0, 0))).interval,
        paired_difference([], []),
        macro_f1_difference([], [], []),
    ):
        assert np.isnan([result.estimate, result.low, result.high]).all()
    assert np.isnan([median([]), percentile([], 95), macro_f1([], [])]).all()


def test_time_reduction() -> None:
    result = time_reduction_pct(Interval(2.0, 1.0, 0.8))
    assert (result.estimate, result.low, result.high) == pytest.approx((50.0, 0.0, -25.0))


def test_percentiles() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert percentile(np.arange(101.0), 95) == pytest.approx(95.0)
