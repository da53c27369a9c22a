"""Bounds and p-values against scipy and the t-interval, and by coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.stats.bootstrap import (
    ALPHA,
    MIN_CASES,
    RESAMPLES,
    Bootstrap,
    joint_freedom,
    of_cases,
    of_crossed,
    of_mean,
    of_shards,
    resampled_means,
    satterthwaite,
)
from reports.stats.launches import Launches, joined, nan_median


def percentile_of_scipy(values: np.ndarray, side: int) -> float:
    """At the level that Hesterberg's table gives for a 95 % bound on this many cases."""
    n = len(values)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.95, n - 1))
    level = 1 - 2 * tail
    options = {"n_resamples": 40_000, "confidence_level": level, "method": "percentile"}
    interval = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(4), **options).confidence_interval
    return float(interval[(side + 1) // 2])


def t_bound(values: np.ndarray, side: int, alpha: float = 0.05) -> float:
    return float(values.mean() + side * stats.t.isf(alpha, len(values) - 1) * stats.sem(values))


def test_a_skewed_sample_has_scipys_percentile_on_its_long_side_and_the_t_bound_on_the_other() -> None:
    values = np.random.default_rng(3).gamma(1.0, size=25)
    bootstrap = of_mean(values)
    assert bootstrap.estimate == pytest.approx(values.mean())
    # Monte-Carlo error of such a quantile: about 0.03 standard errors
    tolerance = 0.12 * stats.sem(values)
    assert bootstrap.high(ALPHA) == pytest.approx(percentile_of_scipy(values, 1), abs=tolerance)
    assert bootstrap.high(ALPHA) > t_bound(values, 1)
    assert percentile_of_scipy(values, -1) > t_bound(values, -1)
    assert bootstrap.low(ALPHA) == pytest.approx(t_bound(values, -1), abs=tolerance)


@pytest.mark.parametrize("cases", [5, 12, 36])
def test_bounds_of_normal_values_are_the_t_intervals(cases: int) -> None:
    values = stats.norm.ppf((np.arange(cases) + 0.5) / cases)  # no chance in the sample itself
    bootstrap = of_mean(values)
    for alpha in (0.05, 0.01, 1e-5):
        width = t_bound(values, 1, alpha) - values.mean()
        # an expanded percentile of few cases may claim still less, never more
        assert bootstrap.low(alpha) == pytest.approx(t_bound(values, -1, alpha), abs=0.06 * width)
        assert bootstrap.high(alpha) == pytest.approx(t_bound(values, 1, alpha), abs=0.06 * width)


def test_levels_are_expanded_as_in_the_published_table() -> None:
    bootstrap = Bootstrap.of(0.0, np.linspace(-1, 1, 1001), 5)
    assert stats.norm.sf(bootstrap._z(0.025)) == pytest.approx(0.0010, abs=5e-5)  # Hesterberg's table of levels, n = 5
    assert stats.norm.sf(Bootstrap.of(0.0, np.linspace(-1, 1, 1001), 20)._z(0.025)) == pytest.approx(0.0159, abs=5e-5)


def logs(generator: np.random.Generator, cases: int, launches: int, of_launch: float, rounds: int = 1) -> np.ndarray:
    """Log ratios [cases, launches, rounds] around 1, as the samples of two variants give them.

    Noise of 2.8 % in each, 1 % that a variant does with a case, and one sample in fifty longer by 20 to 200 %.
    """

    def variant() -> np.ndarray:
        size = (cases, launches, rounds)
        outliers = np.where(generator.random(size) < 0.02, np.log(generator.uniform(1.2, 3.0, size)), 0.0)
        shifts = generator.normal(0, 0.01, (cases, 1, 1)) + generator.normal(0, of_launch, (1, launches, 1))
        return shifts + generator.normal(0, 0.028, size) + outliers

    return 1 + variant() - variant()


@pytest.mark.parametrize(("launches", "rounds"), [(1, 1), (1, 3), (3, 1), (3, 2)])
@pytest.mark.parametrize("cases", [5, 12, 36])
def test_a_bound_covers_the_truth_at_its_level(cases: int, launches: int, rounds: int) -> None:
    generator, runs = np.random.default_rng(7), 300
    of_launch = 0.004 if launches > 1 else 0.0  # a single one's own luck no bound can know
    bootstraps = [of_crossed(logs(generator, cases, launches, of_launch, rounds)) for _ in range(runs)]
    low = np.mean([bootstrap.low(ALPHA) <= 1 for bootstrap in bootstraps])
    high = np.mean([bootstrap.high(ALPHA) >= 1 for bootstrap in bootstraps])
    print(f"{cases} cases, {launches} launches of {rounds}: low {low:.3f}, high {high:.3f}")
    # 95 % less 2.5 standard errors of 1.3 points
    assert low >= 0.918
    assert high >= 0.918


def test_starts_that_differ_more_than_the_cases_are_covered_too() -> None:
    generator = np.random.default_rng(8)
    bootstraps = [of_crossed(logs(generator, 36, 3, 0.05)) for _ in range(200)]
    assert np.mean([m.low(ALPHA) <= 1 for m in bootstraps]) >= 0.91
    as_if_cases = [of_mean(np.median(logs(generator, 36, 3, 0.05), axis=(1, 2))) for _ in range(200)]
    assert np.mean([m.low(ALPHA) <= 1 for m in as_if_cases]) < 0.8, "what leaving the launches out would do"


def test_a_disturbed_sample_hardly_counts() -> None:
    values = np.random.default_rng(12).normal(1.0, 0.02, (12, 3, 1))
    worse = values.copy()
    worse[4, 1] += 1.0
    before, after = of_crossed(values), of_crossed(worse)
    assert after.estimate == pytest.approx(before.estimate, abs=0.005)
    assert after.low(ALPHA) == pytest.approx(before.low(ALPHA), abs=0.01)
    assert of_mean(worse.mean(axis=(1, 2))).low(ALPHA) < before.low(ALPHA) - 0.01, "what a mean would do"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 12]), st.sampled_from([1, 3]))
def test_the_lower_bound_reaches_a_value_exactly_when_its_p_value_is_within_the_level(
    seed: int, cases: int, launches: int
) -> None:
    generator = np.random.default_rng(seed)
    bootstrap = of_crossed(generator.gamma(2.0, size=(cases, launches, 2)))
    for alpha in 10 ** generator.uniform(-6, -0.4, 8):
        bound = bootstrap.low(alpha)
        assert bootstrap.p_at_most(bound - 1e-9) <= alpha * (1 + 1e-6)
        assert bootstrap.p_at_most(bound + 1e-6) > alpha * (1 - 1e-6)


def test_p_value_of_normal_values_is_the_t_tests() -> None:
    values = np.random.default_rng(9).normal(0.3, 1.0, 40)
    theirs = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    assert of_mean(values).p_at_most(0.0) == pytest.approx(theirs, rel=0.25)
    assert of_mean(values).p_at_most(values.max()) == pytest.approx(1.0)


def test_equal_cases_have_bounds_without_width() -> None:
    bootstrap = of_crossed(np.full((MIN_CASES, 2, 3), 2.0))
    assert (bootstrap.low(1e-6), bootstrap.high(1e-6)) == pytest.approx((2.0, 2.0))
    assert (bootstrap.p_at_most(1.9), bootstrap.p_at_most(2.1)) == (0.0, 1.0)


def test_one_start_is_the_plain_bootstrap_of_the_cases() -> None:
    values = np.random.default_rng(10).normal(size=(12, 1, 3))
    assert of_crossed(values).resampled == pytest.approx(of_mean(np.median(values, axis=(1, 2))).resampled)


def test_missing_cells_weigh_nothing() -> None:
    values = np.random.default_rng(11).normal(1.0, 0.1, (8, 3, 2))
    values[2:, 2] = np.nan
    values[3, 1, 1] = np.nan
    bootstrap = of_crossed(values)
    assert bootstrap.low(ALPHA) < bootstrap.estimate < bootstrap.high(ALPHA)
    assert of_crossed(np.concatenate([values, np.full((1, 3, 2), np.nan)])).cases == 8
    constant = of_crossed(np.where(np.isnan(values), np.nan, 2.0))
    assert constant.resampled == pytest.approx(np.full(RESAMPLES, 2.0))


def resumed(y: np.ndarray, first: int) -> np.ndarray:
    """`y` [cases, 2, rounds] as of a run that was interrupted within its first round, after `first` cases."""
    y = y.copy()
    y[first:, 0] = y[:first, 1, 0] = y[:, 0, 1:] = np.nan
    return y


def test_launches_without_a_case_in_common_are_as_good_as_one() -> None:
    y = resumed(np.random.default_rng(12).normal(1.0, 0.1, (12, 2, 1)), 7)
    one = of_mean(np.nanmax(y, axis=(1, 2)))
    bootstrap = of_crossed(y)
    assert (bootstrap.freedom, bootstrap.interval) == (11, one.interval)
    assert joined(y) == joined(y[:, :1]) == 1
    assert joined(np.ones((12, 2, 1))) == 2


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_the_median_without_nan_is_numpys(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=generator.integers(1, 6, 3))
    values[generator.random(values.shape) < generator.random()] = np.nan
    np.testing.assert_array_equal(nan_median(values), np.nanmedian(values, axis=2))


def test_launches_that_others_join_are_one_group() -> None:
    y = np.full((4, 5, 1), np.nan)
    y[0, [0, 3]] = y[1, [3, 4]] = y[2, 1] = y[3, 2] = 1.0  # 0 and 4 by way of 3
    assert joined(y) == 1 + 5 - len([{0, 3, 4}, {1}, {2}])


def test_the_effect_of_a_launch_is_that_on_the_cases_that_others_ran_too() -> None:
    """0.3 beside 0 in the other, whichever cases it lacks; the cases' own values are any."""
    of_case = np.random.default_rng(13).normal(1.0, 1.0, (9, 1, 1))
    y = of_case + np.array([0.3, 0.0, 0.0])[:, None]
    y[:6, 0] = y[7:, 2] = y[:2, 1] = np.nan
    launches = Launches.of(y)
    assert launches.effects == pytest.approx([0.2, -0.1, -0.1])
    assert launches.freedom == 2
    assert launches.variance_of_mean == pytest.approx(0.03 / 3)
    assert of_cases(y) == pytest.approx(of_case[:, 0, 0] + 0.1)


def test_bounds_of_a_resumed_run_claim_no_more_than_its_launches_show() -> None:
    """The second launch, which had the rest of the first round, had a further one with all cases."""
    generator, runs, above = np.random.default_rng(14), 300, 0
    for _ in range(runs):
        of_case, of_launch = generator.normal(1.0, 0.004, (16, 1, 1)), generator.normal(0, 0.017, (1, 2, 1))
        y = resumed(of_case + of_launch + generator.normal(0, 0.004, (16, 2, 2)), 8)
        above += of_crossed(y).low(ALPHA) > 1
    print(f"the lower bound lies above the truth in {above} of {runs}")
    assert above / runs <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / runs)


def test_no_bounds_on_too_few_cases() -> None:
    bootstrap = of_mean([2.0] * (MIN_CASES - 1))
    assert bootstrap.estimate == pytest.approx(2.0)
    assert np.isnan([bootstrap.low(ALPHA), bootstrap.high(ALPHA), bootstrap.p_at_most(1.0)]).all()


def test_fewest_cases_follow_from_the_sign_test() -> None:
    assert stats.binomtest(MIN_CASES, MIN_CASES, alternative="greater").pvalue <= 0.05
    assert stats.binomtest(MIN_CASES - 1, MIN_CASES - 1, alternative="greater").pvalue > 0.05


def test_the_same_seed_gives_the_same_bounds_and_another_one_others() -> None:
    values = np.random.default_rng(8).normal(size=20)
    assert resampled_means(values, 1).tolist() == resampled_means(values, 1).tolist()
    assert resampled_means(values, 1).tolist() != resampled_means(values, 2).tolist()


def test_many_cases_are_resampled_in_blocks() -> None:
    assert resampled_means(np.ones(3000)).shape == (RESAMPLES,)
    assert of_crossed(np.ones((3000, 2, 1))).resampled.shape == (RESAMPLES,)


# --- shards -----------------------------------------------------------------------------------------------------------


def machines(generator: np.random.Generator, sizes: list[int], of_machine: float) -> list[np.ndarray]:
    """Shards of so many cases around 1, each on a machine that shifts all of it."""
    return [logs(generator, size, 3, 0.004) + generator.normal(0, of_machine) for size in sizes]


def test_a_single_shard_is_a_run_on_one_machine() -> None:
    values = logs(np.random.default_rng(1), 12, 3, 0.004, 2)
    one, alone = of_shards([values]), of_crossed(values)
    assert (one, one.interval) == (alone, alone.interval)
    assert one.resampled.tolist() == alone.resampled.tolist()
    assert of_shards([values, np.empty((0, 0, 0)), np.full((3, 1, 1), np.nan)]) == alone
    assert of_shards([]) == Bootstrap()


def test_the_estimate_is_the_mean_over_the_cases_of_all_shards() -> None:
    shards = [np.full((6, 1, 1), 1.0), np.full((4, 1, 1), 2.0)]
    assert of_shards(shards).estimate == pytest.approx(1.4)


def test_where_machines_differ_bounds_are_students_by_their_means() -> None:
    shards = [np.full((5, 2, 1), value) + logs(np.random.default_rng(2), 5, 2, 0.0) for value in (0.0, 0.5, 1.0, 1.1)]
    means = np.array([of_crossed(own).estimate for own in shards])
    bootstrap = of_shards(shards)
    assert bootstrap.low(ALPHA) == pytest.approx(t_bound(means, -1))
    assert bootstrap.high(ALPHA) == pytest.approx(t_bound(means, 1))


def test_where_machines_agree_by_chance_bounds_are_those_of_the_cases() -> None:
    own = logs(np.random.default_rng(3), 9, 2, 0.004)
    bootstrap = of_shards([own, own])
    assert bootstrap.error_of_shards == 0
    assert bootstrap.high(ALPHA) - bootstrap.low(ALPHA) == pytest.approx(
        (of_crossed(own).high(ALPHA) - of_crossed(own).low(ALPHA)) / np.sqrt(2), rel=0.25
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.sampled_from([0.0, 0.01, 0.2]), st.floats(0.001, 0.4))
@settings(max_examples=25, deadline=None)
def test_the_p_value_of_shards_is_where_the_bound_reaches_the_value(
    seed: int, count: int, of_machine: float, alpha: float
) -> None:
    bootstrap = of_shards(machines(np.random.default_rng(seed), [3] * count, of_machine))
    low = bootstrap.low(alpha)
    assert bootstrap.p_at_most(low) == pytest.approx(alpha, rel=1e-6)
    assert bootstrap.p_at_most(low + 1e-6) > alpha > bootstrap.p_at_most(low - 1e-6)


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("of_machine", [0.0, 0.05])
def test_bounds_of_shards_cover_the_truth(count: int, of_machine: float) -> None:
    generator, runs = np.random.default_rng(11), 150
    sizes = [24 // count] * count
    bootstraps = [of_shards(machines(generator, sizes, of_machine), seed=i) for i in range(runs)]
    low = np.mean([bootstrap.low(ALPHA) <= 1 for bootstrap in bootstraps])
    high = np.mean([bootstrap.high(ALPHA) >= 1 for bootstrap in bootstraps])
    print(f"{count} shards, machines {of_machine}: low {low:.3f}, high {high:.3f}")
    assert min(low, high) >= 0.95 - 2.5 * np.sqrt(0.95 * 0.05 / runs)


def test_the_freedom_of_two_variances_is_satterthwaites() -> None:
    assert joint_freedom([(0.3, 11), (0.2, 2)], 11) == satterthwaite(0.3, 11, 0.2, 2)
    assert joint_freedom([(0.3, 11), (0.0, 0)], 11) == 11
    assert joint_freedom([(0.0, 4)], 7) == 7
    assert joint_freedom([(1.0, 4), (1.0, 4), (1.0, 4)], 99) == pytest.approx(12)
