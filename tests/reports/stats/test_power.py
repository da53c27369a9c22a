"""The smallest losses that cases show, against simulation and scipy."""

import numpy as np
import pytest
from scipy import stats

from reports.stats.power import ENOUGH_FOR_F1, LOST_SHARE, POWER, cases_to_detect, detectable_drop, detectable_share


@pytest.mark.parametrize("cases", [8, 16, 36])
def test_a_detectable_drop_is_found_as_often_as_stated(cases: int) -> None:
    rng = np.random.default_rng(cases)
    z = stats.norm.ppf((np.arange(cases) + 0.5) / cases)
    exact = z / z.std(ddof=1)  # a sample whose standard deviation is 1
    drop = detectable_drop(exact)
    lost = rng.normal(-drop, 1.0, (20_000, cases))
    detected = stats.ttest_1samp(lost, 0.0, axis=1, alternative="less").pvalue <= 0.05
    assert detected.mean() == pytest.approx(POWER, abs=0.03)  # the formula's t quantile stands for the noncentral one


def test_a_drop_without_spread_is_seen_at_once_and_one_case_shows_nothing() -> None:
    assert detectable_drop([0.1] * 8) == pytest.approx(0.0)
    assert np.isnan([detectable_drop([0.1]), detectable_share(0)]).all()


@pytest.mark.parametrize("cases", [5, 16, 36])
def test_a_detectable_share_is_met_at_least_once_as_often_as_stated(cases: int) -> None:
    assert stats.binom.sf(0, cases, detectable_share(cases)) == pytest.approx(POWER)
    limit = stats.binomtest(0, cases).proportion_ci(2 * POWER - 1).high  # Clopper and Pearson's, one-sided at the power
    assert detectable_share(cases) == pytest.approx(limit)


def test_sixteen_cases_show_a_tenth() -> None:
    assert (ENOUGH_FOR_F1, cases_to_detect(0.05)) == (16, 32)
    assert detectable_share(16) <= LOST_SHARE < detectable_share(15)
