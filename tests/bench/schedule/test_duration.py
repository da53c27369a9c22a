"""The forecast of a run's duration, by the rules that the run itself follows."""

import pytest

from bench.schedule.duration import Pace, expect
from bench.schedule.limits import DEFAULT
from tests.reports.factory import made_of, make_settings

PACE = Pace(case_s={"base": 2.0, "a": 1.0, "b": 1.0}, opening_s={"base": 8.0, "a": 4.0, "b": 4.0}, scoring_s=0.5)
VARIANTS = {name: made_of(name) for name in PACE.case_s}


def test_a_fixed_number_of_rounds_and_its_confirmation():
    least, most = expect([["base", "a", "b"]], PACE, 10, make_settings(VARIANTS, rounds=4), DEFAULT)
    assert least == most
    assert (least.rounds, least.launches) == (4, 4), "a launch takes 16 s, and so less than a round of 40 s"
    rounds, confirmation = 4 * 40 + 4 * 16, 4 * 10 * 3 + 4 * 12
    assert least.seconds == rounds + confirmation + 0.5 * 10 * 3


@pytest.mark.parametrize("budget_s", [10.0, 79.0, 80.0, 81.0, 400.0, 5000.0])
def test_the_budget_ends_the_rounds_where_the_run_ends_them(budget_s):
    _, most = expect([["base", "a", "b"]], PACE, 10, make_settings(VARIANTS, rounds=None, budget_s=budget_s), DEFAULT)
    done = 1
    while done < DEFAULT.rounds and 40.0 * (done + 1) <= budget_s:
        done += 1
    assert most.rounds == done
    assert most.seconds >= done * 40


def test_a_baseline_alone_has_no_confirmation():
    least, _ = expect([["base"]], PACE, 10, make_settings(VARIANTS, rounds=1), DEFAULT)
    assert least.seconds == 8 + 20 + 5


def test_the_shortest_race_is_one_round_and_a_confirmation_on_the_fewest_cases():
    settings = make_settings(VARIANTS, rounds=None, budget_s=400.0, race=True)
    least, most = expect([["base", "a", "b"]], PACE, 10, settings, DEFAULT)
    pairs = 3 * DEFAULT.launches + 2  # three cases in every launch, and the other two in one
    assert least.seconds == 40 + 16 + pairs * 3 + DEFAULT.launches * 12 + 0.5 * 10 * 3
    assert most.seconds > least.seconds + most.rounds * 10
