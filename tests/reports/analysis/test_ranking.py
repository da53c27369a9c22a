"""The ranking over resamples, held against one that is computed resample by resample."""

from dataclasses import replace
from math import log
from statistics import median

import numpy as np
import pytest

from reports.analysis.ranking import rank
from reports.records.record import ALL_CASES, INTERLEAVED, CommandRecord
from reports.records.store import Run
from reports.stats.bootstrap import RESAMPLES, SEED
from tests.reports.factory import BASELINE, Candidate, make_run

CLOSE = {
    "a": Candidate(2.0, (0.7, 1.3, 1.1, 0.9)),
    "b": Candidate(2.02, (1.2, 0.8, 1.0)),
    "c": Candidate(1.98, (1.0, 1.4, 0.6, 0.9, 1.1)),
    "slow": Candidate(0.5, (1.0,)),
}


def by_hand(run: Run) -> dict[str, list[float]]:
    """The share of the resamples in which each variant had each rank, one resample after the other."""

    def seconds(name: str) -> dict[str, dict[int, int]]:
        times: dict[str, dict[int, int]] = {}
        for sample in run.variant(name).samples:
            if sample.phase == INTERLEAVED:
                times.setdefault(sample.case, {})[sample.round] = sample.case_ns
        return times

    cases, names = sorted(seconds(BASELINE)), [variant.name for variant in run.variants]
    speedups = {
        name: [median(log(seconds(BASELINE)[case][r] / ns) for r, ns in seconds(name)[case].items()) for case in cases]
        for name in names
    }
    ranks = {name: [0] * len(names) for name in names}
    for drawn in np.random.default_rng(SEED).integers(len(cases), size=(RESAMPLES, len(cases))):
        means = {name: round(sum(values[i] for i in drawn) / len(cases), 12) for name, values in speedups.items()}
        for name in names:
            ranks[name][sum(means[other] > means[name] for other in names)] += 1
    return {name: [count / RESAMPLES for count in counts] for name, counts in ranks.items()}


def test_ranks_are_those_of_every_resample_counted_by_hand() -> None:
    run = make_run(CLOSE, cases=9)
    ranking, expected = rank(run), by_hand(run)
    assert ranking is not None
    assert (ranking.cases, ranking.left_out) == (9, ())
    assert set(ranking.names[:3]) == {"a", "b", "c"}
    assert ranking.names[3:] == (BASELINE, "slow")
    for name, shares in zip(ranking.names, ranking.shares, strict=True):
        assert shares == pytest.approx(expected[name], abs=1e-9), name
    assert 0 < ranking.shares[0][1] < ranking.shares[0][0] < 1, "close ones change places"
    assert ranking.shares[4][4] == 1


def test_cases_are_drawn_for_all_variants_together() -> None:
    """Of two that are alike but for 1 %, the same case is slow in both: drawn apart they would change places."""
    wild = (0.3, 3.0, 1.0)
    ranking = rank(make_run({"wild": Candidate(20.0, wild), "wilder": Candidate(20.2, wild)}, rounds=1))
    assert ranking is not None
    assert ranking.names == ("wilder", "wild", BASELINE)
    assert ranking.shares[0][0] == ranking.shares[1][1] == 1


def test_equal_variants_share_the_better_rank() -> None:
    ranking = rank(make_run({"one": Candidate(2.0), "other": Candidate(2.0)}))
    assert ranking is not None
    assert ranking.shares == ((1, 0, 0), (1, 0, 0), (0, 0, 1))


def test_a_variant_that_lacks_cases_is_left_out() -> None:
    run = make_run(CLOSE)
    cut = tuple(replace(v, samples=v.samples[:7]) if v.name == "b" else v for v in run.variants)
    ranking = rank(replace(run, variants=cut))
    assert ranking is not None
    assert ranking.left_out == ("b",)
    assert ranking.cases == 16


def test_what_cannot_be_ranked_is_not() -> None:
    assert rank(make_run(CLOSE, cases=4)) is None, "too few cases for any bound"
    assert rank(make_run({"a": Candidate(2.0)})) is None, "of two the bounds of the one say the same"
    run = make_run(CLOSE)
    folder = replace(run.variants[1].settings, command=CommandRecord(line="x", mode="folder"))
    call = replace(run.variants[1].samples[0], case=ALL_CASES, classes={})
    calls = (run.variants[0], replace(run.variants[1], settings=folder, samples=(call,)), *run.variants[2:])
    ranking = rank(replace(run, variants=calls))
    assert ranking is not None
    assert ranking.left_out == ("a",), "its cases have no time of their own"
