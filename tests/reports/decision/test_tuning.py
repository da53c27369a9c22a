"""Which trial of a search is the best, and which ended early."""

from dataclasses import replace

import pytest

from reports.decision.accuracy import compare_accuracy
from reports.decision.speed import case_ns, pairs, speed
from reports.decision.tuning import (
    FAILED,
    MEASURED,
    PRUNED,
    Trial,
    best_of,
    front,
    is_beaten,
    is_lost,
    is_promising,
    judged,
    speedup_of,
    timed,
    undecided_faster,
    without_bounds,
)
from reports.decision.verdict import KEPT, LOST, UNDECIDED, Claim, judge_accuracy
from reports.records.record import INTERLEAVED
from tests.reports.factory import Candidate, made_of, make_run, with_lesions


def trial(
    number: int, speedup: float | None, accuracy: str = KEPT, used: float | None = 0.1, state: str = MEASURED
) -> Trial:
    own = made_of(f"a@{number}")
    return Trial(
        number=number, settings=own, state=state, speedup=speedup, accuracy=accuracy, margin_used=used,
        promising=accuracy == KEPT,
    )  # fmt: skip


def test_the_best_is_the_fastest_whose_accuracy_is_kept():
    trials = [trial(1, 1.0), trial(2, 2.0, LOST, 3.0), trial(3, 1.5), trial(4, 1.8, UNDECIDED, 0.5)]
    trials += [trial(5, 3.0, "", None, PRUNED), trial(6, None, "", None, FAILED)]
    assert best_of(trials).number == 3
    assert best_of([trials[1], trials[3]]).number == 4, "an undecided one where none is kept"
    assert best_of([trials[1], trials[4], trials[5]]) is None


def test_where_none_is_promising_means_beyond_their_margins_come_last():
    trials = [trial(1, 1.0, UNDECIDED, 0.0), trial(2, 3.0, UNDECIDED, 30.0), trial(3, 2.0, UNDECIDED, 0.4)]
    assert best_of(trials).number == 3
    assert best_of(trials[1:2]).number == 2


def test_faster_trials_that_are_neither_lost_nor_promising_are_known():
    trials = [trial(1, 1.0), trial(2, 2.0, LOST, 3.0), trial(3, 1.5, UNDECIDED), trial(4, 1.8, UNDECIDED, 0.5)]
    trials += [trial(5, 1.01, UNDECIDED), trial(6, 9.0, UNDECIDED, None, PRUNED)]
    assert [each.number for each in undecided_faster(trials, trials[0])] == [4, 3]


def test_of_those_that_are_as_fast_the_one_furthest_from_a_loss_is_taken():
    assert best_of([trial(1, 1.50, used=0.8), trial(2, 1.49, used=0.1), trial(3, 1.40, used=0.0)]).number == 2


def test_the_front_is_what_nothing_beats_in_both():
    trials = [trial(1, 1.0, used=0.0), trial(2, 2.0, LOST, 3.0), trial(3, 1.5, used=0.2), trial(4, 1.4, used=0.2)]
    trials += [trial(5, 1.5, used=0.2), trial(6, 9.0, "", None, PRUNED)]
    assert [each.number for each in front(trials)] == [2, 3, 1]


def test_speedups_over_the_same_reference_are_compared():
    assert speedup_of(trial(1, 3.0), trial(2, 2.0)) == pytest.approx(1.5)


@pytest.mark.parametrize(("speedup", "beaten"), [(1.0, True), (1.9, False), (2.2, False)])
def test_a_trial_is_beaten_where_the_luck_of_its_launch_does_not_explain_it(speedup, beaten):
    run = make_run({"a": Candidate(speedup)}, cases=8, rounds=1)
    own = speed(pairs(run, "a", INTERLEAVED), case_ns)
    assert is_beaten(own, trial(1, 2.0)) == beaten
    few = make_run({"a": Candidate(speedup)}, cases=4, rounds=1)
    assert not is_beaten(speed(pairs(few, "a", INTERLEAVED), case_ns), trial(1, 2.0)), "too few cases to know"


def test_a_trial_has_the_state_of_its_accuracy_and_what_it_used_of_its_margins():
    run = make_run({"a": Candidate(2.0, lesion=-0.002), "b": Candidate(2.0, lesion=-0.02)}, rounds=1)
    claim = Claim.of(run.record.settings)
    for name, state, used, lost in (("a", KEPT, 0.4, False), ("b", LOST, 4.0, True)):
        own, accuracy = speed(pairs(run, name, INTERLEAVED), case_ns), compare_accuracy(run, name)
        made = judged(7, made_of(name), own, accuracy, claim, 16)
        assert (made.number, made.state, made.accuracy, made.cases) == (7, MEASURED, state, 16)
        assert made.margin_used == pytest.approx(used)
        assert made.low < made.speedup < made.high
        assert is_lost(accuracy, claim) == lost
    unknown = timed(1, made_of("a"), FAILED, "broken", replace(own, speedup=type(own.speedup)()))
    assert (unknown.speedup, unknown.low, unknown.high, unknown.margin_used) == (None, None, None, None)


def test_what_few_tuning_cases_leave_undecided_may_be_promising_on_more_evaluation_cases():
    uneven = [0.012 * (-1) ** i for i in range(16)]
    run = make_run({"a": Candidate(2.0, lesion=uneven), "b": Candidate(2.0, lesion=[-0.006] * 16)}, rounds=1)
    claim = Claim.of(run.record.settings)
    assert judge_accuracy(compare_accuracy(run, "a"), claim)[0] == UNDECIDED
    assert [is_promising(compare_accuracy(run, "a"), claim, cases) for cases in (16, 36, 100)] == [False, True, True]
    assert not any(is_promising(compare_accuracy(run, "b"), claim, cases) for cases in (16, 36, 10_000))


@pytest.mark.parametrize("cases", [1, 4])
def test_of_a_structure_in_fewer_than_five_tuning_cases_the_mean_counts(cases):
    """It has no bound with any recipe, so that asking for one would refuse all of them alike."""
    uneven = [0.02 * (-1) ** i for i in range(16)]
    recipes = {"equal": Candidate(2.0), "lossy": Candidate(2.0, lesion=-0.02), "uneven": Candidate(2.0, whole=uneven)}
    run = with_lesions(make_run(recipes, rounds=1), cases)
    claim = Claim.of(run.record.settings)
    promising = {name: is_promising(compare_accuracy(run, name), claim, 16) for name in recipes}
    assert promising == {"equal": True, "lossy": False, "uneven": False}, "what has enough cases keeps its bound"
    assert {judge_accuracy(compare_accuracy(run, name), claim)[0] for name in recipes} == {UNDECIDED}
    assert without_bounds(compare_accuracy(run, "equal")) == {"lesion DSC": cases, "lesion NSD": cases}


def test_classes_that_no_case_states_speak_against_no_recipe_and_what_no_case_holds_is_not_missing():
    run = with_lesions(make_run({"a": Candidate(2.0)}, rounds=1, subtypes=False), 0)
    accuracy = compare_accuracy(run, "a")
    assert is_promising(accuracy, Claim.of(run.record.settings), 16)
    assert without_bounds(accuracy) == {"macro-F1": 0}
