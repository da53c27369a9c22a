"""Which cases are the worst, and in which order."""

from dataclasses import replace

import pytest

from reports.analysis.cases import worst_cases
from reports.records.record import StructureScore
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, LESION, WHOLE, Candidate, by_agreement, make_run, segmenting

FAST = "fast"


def rescored(run, changes):
    """The run with other scores of the candidate, by case: fields of its `Score`."""
    variants = [
        replace(
            variant,
            scores=tuple(replace(score, **changes.get(score.case, {})) for score in variant.scores),
        )
        if variant.name == FAST
        else variant
        for variant in run.variants
    ]
    return replace(run, variants=tuple(variants))


def names(run):
    return [change.case for change in worst_cases(run, FAST)]


def test_a_lost_class_comes_first_then_another_wrong_one_then_dsc_then_voxels():
    run = make_run({FAST: Candidate()}, cases=6, rounds=1)
    lesser = {WHOLE: StructureScore(dsc=0.9), LESION: StructureScore(dsc=0.7)}
    run = rescored(
        run,
        {
            "quiz_0_000": {"subtype": 0},  # the truth, which the baseline missed
            "quiz_1_001": {"differing_voxels": 3},
            "quiz_2_002": {"differing_voxels": 4},
            "quiz_0_003": {"structures": lesser},
            "quiz_1_004": {"subtype": 2},  # the baseline was right
            "quiz_2_005": {"subtype": 1},  # neither is: the truth is 2
        },
    )
    assert names(run) == ["quiz_1_004", "quiz_2_005", "quiz_0_003", "quiz_2_002", "quiz_1_001", "quiz_0_000"]


def test_the_structure_is_the_one_that_fell_most():
    run = make_run({FAST: Candidate(whole=-0.01, lesion=-0.03)}, cases=3, rounds=1)
    change = worst_cases(run, FAST)[0]
    assert change.structure == LESION
    assert change.dsc_change == pytest.approx(-0.03)
    assert change.variant_dsc == pytest.approx(change.baseline_dsc - 0.03)


def test_without_truth_a_case_has_its_voxels_and_no_dsc():
    run = rescored(
        make_run({FAST: Candidate()}, cases=3, rounds=1, masks=False), {"quiz_2_002": {"differing_voxels": 7}}
    )
    first = worst_cases(run, FAST)[0]
    assert (first.case, first.structure, first.differing_voxels) == ("quiz_2_002", "", 7)


def test_by_agreement_the_dsc_is_that_to_the_baseline_and_no_class_is_the_truth():
    run = by_agreement(make_run({FAST: Candidate(lesion=(-0.02, 0.0), flips=1)}, cases=4, rounds=1))
    first, second, *_ = worst_cases(run, FAST)
    assert (first.flipped, first.truth) == (True, None)
    assert (second.baseline_dsc, second.dsc_change) == (1.0, pytest.approx(-0.02))


def test_a_network_without_classes_flips_nothing():
    changes = worst_cases(segmenting(make_run({FAST: Candidate(lesion=-0.01)}, cases=3, rounds=1)), FAST)
    assert not any(change.flipped for change in changes)


@pytest.mark.parametrize("name", [None, BASELINE])
def test_there_are_none_of_the_baseline(name):
    assert worst_cases(make_run({FAST: Candidate()}, cases=3, rounds=1), name) == ()


def test_where_no_variant_meets_the_claim_the_fastest_is_shown():
    summary = summarise(make_run({FAST: Candidate(3.0, lesion=-0.3), "slower": Candidate(2.0, lesion=-0.3)}))
    assert summary.subject is None
    assert summary.cases_of == FAST
    assert summary.worst_cases
