"""The statistics against scipy and scikit-learn, and by coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from reports import statistics
from reports.statistics import (
    MIN_CASES,
    RESAMPLES,
    Interval,
    bootstrap_means,
    geometric_speedup,
    macro_f1,
    macro_f1_difference,
    median,
    p95,
    paired_difference,
    time_reduction_pct,
)

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(LABELS)
def test_macro_f1_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = zip(*pairs, strict=True)
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_each_resample_of_macro_f1_is_that_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, predicted, drawn = (generator.integers(k, size=s) for k, s in ((3, 12), (3, 12), (12, (40, 12))))
    found = statistics._macro_f1(statistics._cells(truth, predicted), statistics._counts(drawn))
    expected = [f1_score(truth[row], predicted[row], average="macro", zero_division=0) for row in drawn]
    assert found == pytest.approx(expected)


def test_bounds_are_those_of_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=25)
    found = paired_difference(values, np.zeros(25))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=0.90, method="percentile", rng=np.random.default_rng(4)
    )
    # Monte-Carlo error of a 5 % quantile of a normal of this width: about 0.02 standard errors
    tolerance = 0.1 * values.std() / 5
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)
    assert found.estimate == pytest.approx(values.mean())


def test_macro_f1_difference_is_that_of_scipys_paired_bootstrap() -> None:
    generator = np.random.default_rng(5)
    truth = np.arange(30) % 3
    baseline = np.where(generator.random(30) < 0.8, truth, (truth + 1) % 3)
    candidate = np.where(generator.random(30) < 0.7, truth, (truth + 2) % 3)

    def difference(t: np.ndarray, c: np.ndarray, b: np.ndarray) -> float:
        of_candidate, of_baseline = (f1_score(t, p, average="macro", zero_division=0) for p in (c, b))
        return float(of_candidate - of_baseline)

    theirs = stats.bootstrap(
        (truth, candidate, baseline), difference, n_resamples=1500, confidence_level=0.90, method="percentile",
        paired=True, vectorized=False, rng=np.random.default_rng(6),
    )  # fmt: skip
    found = macro_f1_difference(truth, candidate, baseline)
    assert found.estimate == pytest.approx(difference(truth, candidate, baseline))
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_a_bound_covers_the_truth_at_nearly_its_level() -> None:
    generator = np.random.default_rng(7)
    covered = [paired_difference(generator.normal(0.1, 1.0, 24), np.zeros(24), seed=i).low <= 0.1 for i in range(400)]
    # the percentile bootstrap is a little too narrow on few cases; 0.95 +- four standard errors of 0.011
    assert 0.90 <= np.mean(covered) <= 0.99


def test_speedup_is_the_geometric_mean_of_the_cases_not_of_the_samples() -> None:
    found = geometric_speedup([[2.0, 2.0, 2.0, 2.0], [8.0]])
    assert found.estimate == pytest.approx(4.0)
    assert geometric_speedup([[1.0, 4.0]] * 6).estimate == pytest.approx(2.0)


def test_equal_cases_have_bounds_without_width() -> None:
    found = geometric_speedup([[2.0, 2.0]] * MIN_CASES)
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))


def test_no_bounds_on_too_few_cases() -> None:
    found = geometric_speedup([[2.0]] * (MIN_CASES - 1))
    assert found.estimate == pytest.approx(2.0)
    assert np.isnan([found.low, found.high]).all()


def test_fewest_cases_follow_from_the_sign_test() -> None:
    assert stats.binomtest(MIN_CASES, MIN_CASES, alternative="greater").pvalue <= 0.05
    assert stats.binomtest(MIN_CASES - 1, MIN_CASES - 1, alternative="greater").pvalue > 0.05


def test_nothing_measured_gives_nan() -> None:
    for found in (geometric_speedup([]), paired_difference([], []), macro_f1_difference([], [], [])):
        assert np.isnan([found.estimate, found.low, found.high]).all()
    assert np.isnan([median([]), p95([]), macro_f1([], [])]).all()


def test_time_reduction() -> None:
    found = time_reduction_pct(Interval(2.0, 1.0, 0.8))
    assert (found.estimate, found.low, found.high) == pytest.approx((50.0, 0.0, -25.0))


def test_the_same_seed_gives_the_same_bounds_and_another_one_others() -> None:
    values = np.random.default_rng(8).normal(size=20)
    assert bootstrap_means(values, 1).tolist() == bootstrap_means(values, 1).tolist()
    assert bootstrap_means(values, 1).tolist() != bootstrap_means(values, 2).tolist()


def test_many_cases_are_resampled_in_blocks() -> None:
    assert bootstrap_means(np.ones(3000)).shape == (RESAMPLES,)


def test_percentiles() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert p95(np.arange(101.0)) == pytest.approx(95.0)
