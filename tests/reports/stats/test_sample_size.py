"""The forecast of cases and rounds, held against the bootstrap that a real run decides by."""

import numpy as np
import pytest

from reports.stats.bootstrap import ALPHA, of_crossed
from reports.stats.sample_size import CASES, Components, components, fewest, least_gain, least_kept

PARTS = Components(cases=0.03**2, launches=0.006**2, rounds=0.02**2)


def drawn(rng, mean, cases, launches, rounds=1, parts=PARTS):
    """Log ratios [cases, launches, rounds]."""
    of_cases, of_launches = rng.normal(0, parts.cases**0.5, cases), rng.normal(0, parts.launches**0.5, launches)
    noise = rng.normal(0, parts.rounds**0.5, (cases, launches, rounds))
    return mean + of_cases[:, None, None] + of_launches[None, :, None] + noise


def test_the_components_are_those_that_were_put_in():
    rng = np.random.default_rng(0)
    each = [components(drawn(rng, 0.1, 5, 2)[..., 0]) for _ in range(3000)]
    assert np.mean([part.cases for part in each]) == pytest.approx(PARTS.cases, rel=0.1)
    assert np.mean([part.rounds for part in each]) == pytest.approx(PARTS.rounds, rel=0.1)
    assert components([[0.1, 0.2]]) is None
    assert components([[0.1], [0.2]]) is None


def test_as_many_cases_as_are_forecast_have_the_power_that_is_stated():
    gain, launches, rounds = 0.02, 3, 3
    cases = fewest(gain, lambda number: least_gain(PARTS, number, rounds, launches), CASES)
    rng = np.random.default_rng(1)
    shown = [of_crossed(drawn(rng, gain, cases, launches)).low(ALPHA) >= 0 for _ in range(400)]
    assert 0.70 <= np.mean(shown) <= 0.90


def in_part(rng, mean, cases, launches, repeated, parts):
    """Log ratios of which only the first cases were run in every launch, the others in one each."""
    values = drawn(rng, mean, cases, launches, parts=parts)
    for case in range(repeated, cases):
        values[case, np.arange(launches) != case % launches] = np.nan
    return values


@pytest.mark.parametrize(
    ("of_cases", "of_launches", "of_rounds"), [(0.13, 0.004, 0.06), (0.03, 0.017, 0.02), (0.01, 0.03, 0.03)]
)
def test_cases_that_are_not_all_repeated_have_the_forecast_power_and_no_false_claims(of_cases, of_launches, of_rounds):
    cases, launches, repeated = 20, 3, 5
    parts = Components(cases=of_cases**2, launches=of_launches**2, rounds=of_rounds**2)
    gain = least_gain(parts, cases, launches, launches, repeated)
    assert gain > least_gain(parts, cases, launches, launches)
    rng = np.random.default_rng(2)

    def claims(mean):
        values = (in_part(rng, mean, cases, launches, repeated, parts) for _ in range(400))
        return np.mean([of_crossed(each).low(ALPHA) >= 0 for each in values])

    assert claims(0.0) <= 0.05 + 0.02, "0.02 is two standard errors"
    assert claims(gain) >= 0.7


def test_the_first_number_that_suffices_or_none():
    assert fewest(0.5, lambda number: least_kept(0.0, number), CASES) == CASES[0]
    assert fewest(0.0, lambda number: least_kept(1.0, number), CASES) is None
    number = fewest(0.1, lambda number: least_kept(0.2, number), CASES)
    assert least_kept(0.2, number) <= 0.1 < least_kept(0.2, number - 1)
