"""Interference: what flags one, and what the report says where the verdict hangs on them."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import isnan

import pytest

from reports.analysis.interference import BUSY, QUOTA, SHARED, SLOW, STOLEN, THROTTLED, flags, without_interference
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED
from reports.records.record import CONFIRMATION, INTERLEAVED, GpuState, Sample, SystemLoad
from reports.records.store import Run
from reports.render import render
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, make_run, warnings_of

QUIET, LOUD = SystemLoad(0.02, 0.0, 3000.0), SystemLoad(1.6, 0.0, 3000.0)
X = "ort-fp32"
SAMPLE = make_run({}, cases=1, rounds=1).variants[0].samples[0]


def surrounded(run: Run, load: Callable[[str, Sample], SystemLoad | None]) -> Run:
    variants = tuple(
        replace(b, samples=tuple(replace(s, system_load=load(b.name, s)) for s in b.samples)) for b in run.variants
    )
    return replace(run, variants=variants)


def slowed(run: Run, name: str, factor: float, interfered: Callable[[Sample], bool]) -> Run:
    """The run in which a loud neighbour made the samples of one variant `factor` times as long."""

    def each(variant: str, sample: Sample) -> Sample:
        if not interfered(sample):
            return replace(sample, system_load=QUIET)
        longer = factor if variant == name else 1.0
        return replace(sample, system_load=LOUD, case_ns=int(sample.case_ns * longer))

    variants = tuple(replace(b, samples=tuple(each(b.name, s) for s in b.samples)) for b in run.variants)
    return replace(run, variants=variants)


@pytest.mark.parametrize(
    ("load", "result"),
    [
        (None, ()),
        (SystemLoad(), ()),
        (QUIET, ()),
        (SystemLoad(0.25, 0.05, 2700.0), ()),
        (SystemLoad(0.26, 0.0, 3000.0), (BUSY,)),
        (SystemLoad(0.0, 0.06, 3000.0), (STOLEN,)),
        (SystemLoad(0.0, 0.0, 2690.0), (SLOW,)),
        (SystemLoad(0.0, 0.0, 3000.0, throttled=0.05), ()),
        (SystemLoad(0.0, 0.0, 3000.0, throttled=0.06), (QUOTA,)),
        (SystemLoad(1.0, 1.0, 1000.0), (BUSY, STOLEN, SLOW)),
    ],
)
def test_the_machine_flags_a_sample(load: SystemLoad | None, result: tuple[str, ...]) -> None:
    assert flags(replace(SAMPLE, system_load=load), median_mhz=3000.0) == result


@pytest.mark.parametrize(
    ("gpu", "result"),
    [
        (GpuState(processes=2), ()),
        (GpuState(processes=3), (SHARED,)),
        (GpuState(throttled_by=("software power cap",)), ()),
        (GpuState(throttled_by=("software power cap", "hardware thermal slowdown")), (THROTTLED,)),
    ],
)
def test_the_gpu_flags_a_sample(gpu: GpuState, result: tuple[str, ...]) -> None:
    assert flags(replace(SAMPLE, gpu=gpu, workers=2)) == result


def test_no_clock_that_was_reported_flags_nothing() -> None:
    assert flags(replace(SAMPLE, system_load=SystemLoad(0.0, 0.0, 10.0))) == ()


def test_the_usual_clock_is_the_runs_median() -> None:
    run = surrounded(make_run({X: Candidate(2.0)}), lambda _, s: SystemLoad(mhz=2600.0 if s.round else 3000.0))
    assert summarise(run).interference.flagged == 0, "half at either: the median lies between them"
    run = surrounded(run, lambda name, s: SystemLoad(mhz=2600.0 if (name, s.round) == (X, 1) else 3000.0))
    assert summarise(run).interference.reasons == {SLOW: 16}


def test_either_sample_of_a_pair_takes_it_out() -> None:
    run = make_run({X: Candidate(2.0), "torch-half": Candidate(3.0)}, cases=8, rounds=2)
    first = {(BASELINE, INTERLEAVED, 0, "quiz_0_000"), (X, INTERLEAVED, 1, "quiz_1_001")}
    loud = surrounded(run, lambda name, s: LOUD if (name, s.phase, s.round, s.case) in first else QUIET)
    result = summarise(loud).interference
    assert (result.samples, result.flagged, result.reasons) == (16 * 3 + 16, 2, {BUSY: 2})
    assert (result.pairs, result.flagged_pairs) == (32, 3), "the baseline's sample is beside both variants"
    assert result.share == 3 / 32
    kept = without_interference(loud)
    assert [len(b.samples) for b in kept.variants] == [31, 15, 16]


def test_all_samples_stay_in_the_figures() -> None:
    run = make_run({X: Candidate(2.0, confirmed_speedup=2.0)}, confirmed=X)
    loud = slowed(run, X, 1.5, lambda s: s.round == 1)
    row = summarise(loud).row(X)
    assert row.case.pairs == 32
    assert row.case.speedup.estimate == pytest.approx(2.0 / 1.5**0.5, rel=0.01)


def test_a_neighbour_that_changes_nothing_is_no_warning() -> None:
    run = make_run({X: Candidate(2.0, confirmed_speedup=2.0)}, confirmed=X)
    summary = summarise(slowed(run, X, 1.2, lambda s: s.round == 1))
    assert (summary.verdict, summary.interference.verdict) == (CONFIRMED, CONFIRMED)
    assert not [warning for warning in summary.warnings if "affected" in warning]
    assert summary.interference.share == 0.5, "half is not more than half"


def test_a_verdict_that_hangs_on_disturbed_samples_is_a_warning() -> None:
    run = make_run({X: Candidate(1.0, confirmed_speedup=1.0)}, confirmed=X, rounds=4)
    summary = summarise(slowed(run, BASELINE, 2.0, lambda s: s.round < 2))
    assert (summary.verdict, summary.interference.verdict) == (CONFIRMED, REFUTED)
    (line,) = (warning for warning in summary.warnings if "affected" in warning)
    assert line.startswith("the verdict is CONFIRMED, but REFUTED without 64 affected pairs of 128 (ort-fp32 does not ")
    assert f"- Note: {line}." in render(summary, "markdown")


def test_a_confirmation_that_was_disturbed_as_a_whole_confirms_nothing_without_it() -> None:
    run = make_run({X: Candidate(2.0, confirmed_speedup=2.0)}, confirmed=X)
    summary = summarise(surrounded(run, lambda _, s: LOUD if s.phase == CONFIRMATION else QUIET))
    assert (summary.verdict, summary.interference.verdict) == (CONFIRMED, INCONCLUSIVE)
    assert f"no pair of fresh samples of {X} is left" in warnings_of(summary)[0]


def test_where_every_pair_was_affected_nothing_is_said_of_the_rest() -> None:
    run = make_run({X: Candidate(2.0, confirmed_speedup=2.0)}, confirmed=X)
    summary = summarise(surrounded(run, lambda *_: LOUD))
    (line,) = (warning for warning in summary.warnings if "affected" in warning)
    assert line.startswith("100 % of the pairs of samples were affected by interference: measure again")
    for form in ("markdown", "verification"):
        assert "Without them no pair is left." in render(summary, form)


def test_more_than_half_is_said() -> None:
    run = make_run({X: Candidate(2.0, confirmed_speedup=2.0)}, confirmed=X, rounds=5)
    summary = summarise(surrounded(run, lambda _, s: LOUD if s.round < 3 else QUIET))
    assert warnings_of(summary) == [
        "60 % of the pairs of samples were affected by interference: measure again on a quieter machine",
    ]


def test_the_json_holds_share_and_verdict() -> None:
    run = make_run({X: Candidate(1.0, confirmed_speedup=1.0)}, confirmed=X, rounds=4)
    summary = summarise(slowed(run, BASELINE, 2.0, lambda s: s.round < 2))
    interference = json.loads(render(summary, "json"), parse_constant=pytest.fail)["interference"]
    assert (interference["share"], interference["verdict"], interference["reasons"]) == (0.5, REFUTED, {BUSY: 128})


def test_the_report_lists_what_happened() -> None:
    run = make_run({X: Candidate(2.0, confirmed_speedup=2.0)}, confirmed=X)
    text = render(summarise(slowed(run, X, 1.2, lambda s: s.round == 1)), "markdown")
    part = text.partition("## Interference")[2].partition("\n## ")[0]
    assert "| other processes used more than 0.25 cores | 64 of 128" in part
    assert "50.0 % of the pairs (32 of 64). All are kept. Without them the verdict is CONFIRMED, with them" in part
    quiet = render(summarise(surrounded(run, lambda *_: QUIET)), "markdown")
    assert "None of 128 samples was affected." in quiet


def test_a_run_from_before_it_was_recorded_says_nothing() -> None:
    run = make_run({X: Candidate(2.0, confirmed_speedup=2.0)}, confirmed=X)
    summary = summarise(run)
    assert (summary.interference.recorded, summary.interference.verdict, warnings_of(summary)) == (0, None, [])
    assert isnan(summary.interference.share)
    assert "Interference" not in render(summary, "markdown")
