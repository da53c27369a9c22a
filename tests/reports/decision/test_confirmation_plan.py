"""How many cases and launches a confirmation takes."""

import itertools
from dataclasses import replace
from math import exp

import numpy as np
import pytest

from reports.decision.confirmation_plan import ConfirmationPlan, Cost, soonest
from reports.decision.needed import variances
from reports.decision.outcome import WIDEST
from reports.decision.speed import case_ns, pairs, speed
from reports.decision.verdict import Claim
from reports.records.record import CONFIRMATION, INTERLEAVED, ConfirmationRecord, Sample, VariantRecord
from reports.records.store import Run
from tests.reports.factory import BASELINE, Candidate, make_run

WHOLE = ConfirmationPlan(cases=36, launches=3, rounds=3, repeated=36)
NAME = "fast"


def run_of(speedup: float, of_cases: float, launches: int = 1, cases: int = 36, seed: int = 0) -> Run:
    """A run with a round in each launch, whose log ratios differ by `of_cases` from case to case (standard deviation).

    They are symmetric, so that the mean is `speedup` exactly.
    """
    deviations = np.random.default_rng(seed).normal(size=cases)
    deviations = of_cases * (deviations - deviations.mean()) / deviations.std(ddof=1)
    run = make_run({NAME: Candidate(speedup)}, cases=cases, rounds=1, race=True)

    def timed(variant: VariantRecord) -> VariantRecord:
        return replace(
            variant, samples=tuple(of_launch(s, n, variant.name) for n in range(launches) for s in variant.samples)
        )

    def of_launch(sample: Sample, launch: int, name: str) -> Sample:
        place = [case.name for case in run.record.cases].index(sample.case)
        ns = 1e9 if name == BASELINE else 1e9 / (speedup * exp(deviations[place]))
        return replace(sample, case_ns=round(ns), round=launch, launch=launch)

    return replace(run, variants=tuple(map(timed, run.variants)))


def plan_of(run: Run, case_s: float, launch_s: float, whole: ConfirmationPlan = WHOLE) -> ConfirmationPlan:
    claim = Claim.of(run.record.settings)
    return soonest(run, NAME, claim, Cost(case_s=case_s, launch_s=launch_s), whole, 3)


def half_width(plan: ConfirmationPlan, speedup: float, of_cases: float, of_launches: float, of_rounds: float) -> float:
    """Of a confirmation as the plan has it, in the middle of 40 drawn ones."""
    widths = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        run = run_of(speedup, of_cases, plan.launches, plan.cases, seed)
        names = tuple(case.name for case in run.record.cases)
        planned = ConfirmationRecord(cases=names, launches=plan.launches, rounds=plan.rounds, repeated=plan.repeated)
        luck = rng.normal(0, of_launches, plan.launches)
        fast = run.variant(NAME)
        samples = tuple(
            replace(s, case_ns=round(s.case_ns * exp(luck[s.launch] + rng.normal(0, of_rounds))))
            for s in fast.samples
            if s.case in planned.of_launch(s.launch)
        )
        assert len(samples) == plan.pairs
        drawn = replace(run, variants=(run.variant(BASELINE), replace(fast, samples=samples)))
        widths.append(speed(pairs(drawn, NAME, INTERLEAVED), case_ns).half_width)
    return float(np.median(widths))


def test_what_is_expected_is_what_comes() -> None:
    plan = plan_of(run_of(3.0, 0.08), case_s=100.0, launch_s=10.0)
    assert plan.cases < 36
    assert half_width(plan, 3.0, 0.08 * (2 / 3) ** 0.5, 0.017, 0.08 * (1 / 3) ** 0.5) < 1.2 * WIDEST


def test_the_more_cases_differ_the_more_are_taken() -> None:
    taken = [plan_of(run_of(3.0, of_cases), 2.0, 5.0).cases for of_cases in (0.02, 0.08, 0.12)]
    assert taken == sorted(taken)
    assert taken[0] == 5, "the fewest of which a claim can be made"
    assert taken[-1] > 10


def test_long_cases_are_paid_for_by_launches_and_slow_launches_by_cases() -> None:
    run = run_of(1.5, 0.06)
    long_cases, slow_launches = plan_of(run, case_s=100.0, launch_s=1.0), plan_of(run, case_s=1.0, launch_s=60.0)
    assert long_cases.launches > slow_launches.launches == 3
    assert long_cases.pairs < slow_launches.pairs


def test_cases_that_differ_are_not_repeated_in_every_launch() -> None:
    plan = plan_of(run_of(4.0, 0.15), 2.5, 8.0)
    assert 3 <= plan.repeated < plan.cases
    assert plan.pairs == plan.launches * plan.repeated + plan.cases - plan.repeated < plan.launches * plan.cases
    alike = plan_of(run_of(1.5, 0.001), 2.5, 8.0)
    assert (alike.cases, alike.repeated) == (5, 3), "the fewest of which a claim can be made"


def test_all_cases_are_taken_where_fewer_would_not_do() -> None:
    assert plan_of(run_of(3.0, 0.5), 1.0, 5.0) == WHOLE, "cases differ too much for such bounds"
    assert plan_of(run_of(1.13, 0.03), 1.0, 5.0) == WHOLE, "too near the claim for fewer to show it"
    five = run_of(3.0, 0.05, cases=5)
    assert plan_of(five, 1.0, 5.0, replace(WHOLE, cases=5, repeated=5)).cases == 5
    four = run_of(3.0, 0.05, cases=4)
    few = replace(WHOLE, cases=4, repeated=4)
    assert plan_of(four, 1.0, 5.0, few) == few, "of which no bound is known"


@pytest.mark.parametrize("launches", [1, 3])
def test_the_variance_of_a_round_is_that_of_a_single_one_however_many_a_launch_has(launches: int) -> None:
    """The cases' deviation is 0.1, that of a round 0.05."""
    rng, paired = np.random.default_rng(0), []
    for baseline, sample in pairs(run_of(1.0, 0.1), NAME, INTERLEAVED):
        for launch, number in itertools.product(range(launches), range(5)):
            ns = round(sample.case_ns * exp(rng.normal(0, 0.05)))
            place = {"launch": launch, "round": 5 * launch + number}
            paired.append((replace(baseline, **place), replace(sample, case_ns=ns, **place)))
    parts = variances(paired)
    assert parts is not None
    assert (parts.cases**0.5, parts.rounds**0.5) == pytest.approx((0.1, 0.05), rel=0.2)


@pytest.mark.parametrize("launches", [1, 3])
def test_it_is_never_longer_than_over_all_cases(launches: int) -> None:
    cost = Cost(case_s=1.0, launch_s=5.0)
    for speedup in (1.15, 1.4, 4.0):
        for of_cases in (0.01, 0.1, 0.3):
            plan = plan_of(run_of(speedup, of_cases, launches), cost.case_s, cost.launch_s)
            assert cost.of(plan) <= cost.of(WHOLE)
            assert plan.launches >= 3
            assert plan.rounds == plan.launches


def test_what_was_interleaved_in_one_launch_is_not_taken_for_its_spread() -> None:
    """The samples of one launch show no spread of launches; without an assumed one every plan would have three."""
    one, three = run_of(1.3, 0.01), run_of(1.3, 0.01, launches=3)
    assert plan_of(one, 100.0, 1.0) == plan_of(three, 100.0, 1.0)
    assert not any(s.phase == CONFIRMATION for s in one.variant(NAME).samples)
