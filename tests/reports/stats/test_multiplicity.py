"""Holm against a hand calculation, and what the interim analyses may spend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.stats.multiplicity import InterimAnalysis, holm, spent


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04: x 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04, and none below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert (holm([0.03]), holm([])) == ([0.03], [])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if (len(p_values) - rank) * p_values[i] > 0.05:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


def test_all_looks_together_spend_alpha() -> None:
    assert spent(1) == pytest.approx(0.025)
    assert sum(spent(number) for number in range(1, 1001)) == pytest.approx(0.05 * (1 - 1 / 1001))
    assert (InterimAnalysis.after(None, 3).alpha, InterimAnalysis.after(2, 3).alpha) == pytest.approx((0.05, 0.05 / 6))


def test_looking_until_something_is_significant_errs_rarely() -> None:
    rng = np.random.default_rng(0)
    sums = rng.normal(size=(20_000, 20)).cumsum(axis=1) / np.sqrt(np.arange(1, 21))
    levels = np.array([spent(number) for number in range(1, 21)])
    p_values = 1 - np.vectorize(_phi)(sums)
    assert (p_values <= levels).any(axis=1).mean() <= 0.05
    assert (p_values <= 0.05).any(axis=1).mean() > 0.15, "what it would be at the same level each time"


def _phi(z: float) -> float:
    from scipy.special import ndtr

    return float(ndtr(z))
