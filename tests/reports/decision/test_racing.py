"""Which variants leave a run's rounds, and when the race is settled."""

from dataclasses import replace

import pytest

from reports.decision.outcome import choose, judge_candidates
from reports.decision.racing import (
    accuracy_states,
    behind,
    is_settled,
    known_peers,
    leaving,
    level_after,
    level_early,
    looks,
)
from reports.decision.verdict import REFUTED, Claim
from reports.records.record import VariantRecord
from reports.records.store import Run
from reports.stats.bootstrap import ALPHA
from tests.reports.factory import Candidate, make_run

FAST = Candidate(2.0)


def race(candidates: dict[str, Candidate], cases: int = 16, rounds: int = 1) -> tuple[Run, Claim]:
    run = make_run(candidates, cases=cases, rounds=rounds, race=True)
    return run, Claim.of(run.record.settings)


def leave(run: Run, claim: Claim) -> dict[str, str]:
    return leaving(run, claim, level_after(1), accuracy_states(run, claim))


def of_one_launch(variant: VariantRecord) -> VariantRecord:
    return replace(variant, samples=tuple(replace(sample, launch=0) for sample in variant.samples))


def after(run: Run, left: dict[str, str]) -> Run:
    return replace(run, variants=tuple(replace(v, left=left.get(v.name, v.left)) for v in run.variants))


def test_looks_are_dense_at_first_and_spend_half_of_the_error() -> None:
    assert looks(36) == (5, 8, 13, 21, 34)
    assert looks(5) == ()
    for cases in (6, 36, 500):
        spent = level_early(cases) * len(looks(cases)) + sum(map(level_after, range(1, 10_000)))
        assert ALPHA * 0.99 < spent <= ALPHA


def test_what_is_slower_than_the_claim_leaves_before_its_accuracy_is_known() -> None:
    run, claim = race({"slow": Candidate(0.9), "fast": FAST})
    left = leaving(run, claim, level_early(16), {})
    assert left.keys() == {"slow"}
    assert left["slow"].startswith(
        "slower than the claim beyond doubt after 16 pairs of samples: case time increased by"
    )
    judged = judge_candidates(after(run, left), claim)
    assert judged["slow"].judgement.verdict == REFUTED


def test_four_cases_let_nobody_leave() -> None:
    run, claim = race({"slow": Candidate(0.2)}, cases=4)
    assert leaving(run, claim, 0.025, {}) == {}


def test_a_lost_accuracy_leaves_whatever_its_speed() -> None:
    run, claim = race({"lossy": Candidate(9.0, lesion=-0.1), "fast": FAST})
    left = leave(run, claim)
    assert left.keys() == {"lossy"}
    assert left["lossy"].startswith("its accuracy lost: lesion DSC fell by 0.1000")


def test_what_is_beaten_by_one_whose_accuracy_is_kept_leaves() -> None:
    run, claim = race({"fast": FAST, "faster": Candidate(3.0)})
    assert leave(run, claim) == {
        "fast": "beaten beyond doubt after 16 pairs of samples: it takes 1.50x the time of faster, whose accuracy is "
        "kept"
    }
    few, claim = race({"fast": FAST, "faster": Candidate(3.0)}, cases=8)  # too few to know the classes
    assert leave(few, claim) == {}


def test_those_that_others_are_faster_than_may_wait() -> None:
    run, claim = race({"fast": FAST, "faster": Candidate(3.0), "near": Candidate(2.98)})
    assert behind(run, claim, ["fast", "faster"], 0) == ("fast",)
    run = replace(run, variants=tuple(map(of_one_launch, run.variants)))
    assert behind(run, claim, ["fast", "faster", "near"], 0) == ("fast", "near")
    demanding = replace(claim, min_reduction_pct=65)
    assert behind(run, demanding, ["fast", "faster", "near"], 0) == ("fast",), "by more than the luck of a launch"
    assert behind(run, claim, ["fast"], 0) == behind(run, claim, [], 0) == ()
    few, _ = race({"fast": FAST, "faster": Candidate(3.0)}, cases=4)
    assert behind(few, claim, ["fast", "faster"], 0) == (), "of which nothing is known"


def test_who_waits_leaves_once_the_accuracy_of_the_fastest_is_known() -> None:
    """Else it would have to go on, and need the baseline beside it a second time."""
    speedups = [2.0 + 0.1 * step for step in range(10)]
    candidates = {f"{speedup:.1f}": Candidate(speedup, (1.0, 1.03, 0.96)) for speedup in speedups}
    candidates["erratic"] = Candidate(2.8, (1.0, 1.5, 0.7))
    run, claim = race(candidates, cases=16)
    run = replace(run, variants=tuple(map(of_one_launch, run.variants)))
    waiting = behind(run, claim, list(candidates), 0)
    assert 0 < len(waiting) < len(candidates) - 1
    assert set(waiting) == leave(run, claim).keys()


@pytest.mark.parametrize(("speedup", "reason"), [(2.08, "not 10 % faster beyond doubt"), (2.3, "beaten beyond doubt")])
def test_a_single_launch_may_be_luck(speedup: float, reason: str) -> None:
    run, claim = race({"fast": FAST, "faster": Candidate(speedup)})
    run = replace(run, variants=tuple(map(of_one_launch, run.variants)))
    assert leave(run, claim)["fast"].startswith(reason)


def test_what_cannot_save_a_tenth_over_the_fastest_leaves() -> None:
    run, claim = race({"fast": FAST, "faster": Candidate(2.01)})
    run = replace(run, variants=tuple(map(of_one_launch, run.variants)))
    left = leave(run, claim)
    assert left == {
        "fast": "not 10 % faster beyond doubt after 16 pairs of samples: it takes 1.01x the time of faster, whose "
        "accuracy is kept"
    }
    assert is_settled(after(run, left), claim)
    assert choose(after(run, left), claim) == "faster"


def test_what_may_save_a_tenth_goes_on() -> None:
    run, claim = race({"noisy": Candidate(2.0, jitter=(1.0, 1.5, 0.7)), "faster": Candidate(2.1)})
    assert leave(run, claim) == {}


def test_where_the_claim_may_need_the_fastest_none_leaves_for_being_near() -> None:
    run, claim = race({"fast": Candidate(1.16), "faster": Candidate(1.17)})
    run = replace(run, variants=tuple(map(of_one_launch, run.variants)))
    assert leave(run, claim) == {}


def test_an_undecided_accuracy_leaves_once_another_is_kept_and_faster_than_the_claim() -> None:
    doubtful = Candidate(2.02, lesion=[0.02 * (-1) ** i for i in range(16)])
    run, claim = race({"doubtful": doubtful, "fast": FAST})
    assert leave(run, claim) == {
        "doubtful": "its accuracy is undecided, which more rounds do not change; fast's is kept"
    }
    run, claim = race({"doubtful": doubtful, "close": Candidate(1.12, jitter=(1.0, 1.1, 0.9))})
    assert "doubtful" not in leave(run, claim)


def test_is_settled_with_one_that_is_confirmed_or_with_none() -> None:
    run, claim = race({"fast": FAST, "lossy": Candidate(3.0, lesion=-0.1)})
    assert not is_settled(run, claim)
    alone = after(run, leave(run, claim))
    assert is_settled(alone, claim)
    assert choose(alone, claim) == "fast"
    assert is_settled(after(alone, {"fast": "for a test"}), claim)
    close, claim = race({"close": Candidate(1.12, jitter=(1.0, 1.1, 0.9))})
    assert not is_settled(close, claim), "one that is undecided goes on"


def test_what_has_left_is_chosen_only_where_nothing_else_is_there() -> None:
    run, claim = race({"fast": FAST, "slower": Candidate(1.5)})
    assert choose(after(run, {"fast": "for a test"}), claim) == "slower"
    assert choose(after(run, {"fast": "for a test", "slower": "for a test"}), claim) == "fast"


def test_a_row_that_left_is_judged_by_the_rounds_that_it_had() -> None:
    run, claim = race({"slow": Candidate(1.02), "fast": FAST}, rounds=6)
    slow = run.variant("slow")
    short = replace(slow, samples=tuple(s for s in slow.samples if s.round == 0), left="for a test")
    run = replace(run, variants=tuple(short if v.name == "slow" else v for v in run.variants))
    judged = judge_candidates(run, claim)
    assert judged["slow"].judgement.test.analysis.number == 1
    assert judged["fast"].judgement.test.analysis.number == 6


def test_a_reference_pipeline_whose_time_is_known_may_leave_and_others_may_not() -> None:
    noisy = Candidate(1.0, (1.0, 1.3, 0.8))
    run, claim = race({"fast": FAST, "steady": Candidate(1.1), "noisy": noisy})
    run = replace(run, record=replace(run.record, peers=("steady", "noisy")))
    assert known_peers(run) == ("steady",)
    assert known_peers(after(run, {"steady": "known"})) == ()
    assert set(leave(run, claim)) <= {"fast"}, "a peer makes no claim that could be lost"
    few, _ = race({"steady": Candidate(1.1)}, cases=4)
    assert known_peers(replace(few, record=replace(few.record, peers=("steady",)))) == ()
