"""Class changes and McNemar's test."""

import math

import pytest
from scipy import stats

from reports.decision.flips import Flip, flips, mcnemar
from reports.records.record import Score

TRUTH = {f"c{i}": 0 for i in range(8)} | {"unknown": None}


def scores(changes: dict[str, tuple[int, int]]) -> list[Score]:
    """`changes`: the class by the baseline and by the candidate; the other cases are right by both."""
    pairs = {case: changes.get(case, (0, 0)) for case in TRUTH}
    return [
        Score(case=case, structures={}, subtype=own, baseline_subtype=reference, voxels=1, differing_voxels=0)
        for case, (reference, own) in pairs.items()
    ]


def test_flips_name_the_case_and_its_classes() -> None:
    result = flips(TRUTH, scores({"c1": (0, 2), "unknown": (1, 2)}))
    assert result == (Flip("c1", 0, 0, 2), Flip("unknown", None, 1, 2))


def test_mcnemar_counts_only_what_is_right_by_one_variant() -> None:
    lost = {f"c{i}": (0, 1) for i in range(5)}
    result = mcnemar(TRUTH, scores({**lost, "c5": (1, 0), "c6": (1, 2), "unknown": (0, 1)}))
    assert (result.lost, result.gained) == (5, 1)
    # two-sided exact: twice P(at most 1 of 6) = 2 x 7 / 64
    assert result.p == pytest.approx(14 / 64)
    assert result.p == pytest.approx(stats.binomtest(5, 6).pvalue)


def test_nothing_discordant_is_no_evidence_and_no_truth_no_test() -> None:
    assert mcnemar(TRUTH, scores({})).p == 1.0
    assert math.isnan(mcnemar({}, scores({"c1": (0, 1)})).p)
