"""Shards side by side: what each shows, where they disagree, and what a merged run has no figure of."""

from dataclasses import replace

import pytest

from bench.shard import Shard
from reports.analysis.diagnostics import diagnose
from reports.analysis.interference import SLOW
from reports.analysis.shards import farthest_apart, opposite, shard_times, unlike_evidence
from reports.charts.course import course_chart
from reports.decision.comparability import controlled_differences
from reports.decision.regression import NO_REGRESSION, regression
from reports.decision.speed import case_ns, pairs, speed
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED, UNDECIDED
from reports.records.record import CONFIRMATION, INTERLEAVED, EvidenceRecord, SystemLoad
from reports.records.store import Run
from reports.render import render
from reports.stats.bootstrap import of_crossed
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, make_run
from tests.reports.sharded import merged, shard_of

X = "openvino-fp32"


def a_run(**changes: float) -> Run:
    own = {"speedup": 1.5, "confirmed_speedup": 1.5, "jitter": (1.0, 1.02, 0.98)} | changes
    return make_run({X: Candidate(**own), "torch-half": Candidate(1.2)}, cases=24, asked=2, confirmed=X)


def with_records(run: Run, **changes: object) -> Run:
    return replace(run, record=replace(run.record, **changes))


def test_the_whole_is_the_mean_over_the_cases_and_the_shards_are_a_level() -> None:
    run = merged(a_run(), 3, {1: 1.0, 2: 1.1, 3: 1.25})
    paired = pairs(run, X, CONFIRMATION)
    whole = speed(paired, case_ns)
    assert (whole.cases, whole.log_speedup.shards) == (24, 3)
    alone = speed([tuple(replace(s, shard=0) for s in pair) for pair in paired], case_ns)
    assert whole.speedup.estimate == pytest.approx(alone.speedup.estimate, rel=1e-3)
    assert whole.speedup.high - whole.speedup.low > 2 * (alone.speedup.high - alone.speedup.low)


def test_without_shards_the_figures_are_those_of_one_machine() -> None:
    cells = [[[0.1 * i + 0.01 * j] for j in range(2)] for i in range(6)]
    assert of_crossed(cells).shards == 0
    assert summarise(a_run()).shards == ()
    assert "## Shards" not in render(summarise(a_run()), "markdown")


def test_each_shard_has_a_row_of_its_own() -> None:
    times = shard_times(merged(a_run(), 3, {3: 1.2}), X, INTERLEAVED)
    assert [own.case.cases for own in times] == [8, 8, 8]
    assert [own.case.speedup.estimate for own in times] == pytest.approx([1.5, 1.5, 1.25], rel=0.02)
    assert [own.baseline_s for own in times] == pytest.approx([1.6, 1.7, 1.8], rel=0.2)
    report = render(summarise(merged(a_run(), 3, {3: 1.2})), "markdown")
    rows = [line.split("|") for line in report.partition("## Shards")[2].splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows[2:5]] == ["1", "2", "3"]
    assert "confirmation samples" in report


def test_a_winner_that_loses_on_one_machine_is_noted() -> None:
    run = merged(a_run(), 3, {3: 1.8})
    assert opposite(shard_times(run, X, INTERLEAVED)) == ([1, 2], [3])
    (warning,) = [each for each in summarise(run).warnings if "faster than the baseline on" in each]
    assert warning.startswith(f"{X} is faster than the baseline on shards 1, 2 and slower on shard 3")


def test_machines_that_save_unlike_shares_are_noted() -> None:
    run = merged(a_run(), 3, {2: 1.2})
    ends = farthest_apart(shard_times(run, X, INTERLEAVED))
    assert ends is not None
    assert ends[1].shard.number == 2
    assert any("the shards disagree on what" in each for each in summarise(run).warnings)


def test_machines_that_agree_are_not_noted() -> None:
    run = merged(a_run(), 3)
    times = shard_times(run, X, INTERLEAVED)
    assert (opposite(times)[1], farthest_apart(times)) == ([], None)
    assert not [each for each in summarise(run).warnings if "shard" in each]


def test_other_precisions_on_one_machine_are_noted() -> None:
    run = merged(a_run(), 3)
    fallback = EvidenceRecord("CPU", {"bf16": 0.9, "fp32": 0.1})
    first, second, third = run.record.shards
    run = with_records(run, shards=(first, replace(second, evidence={**second.evidence, X: fallback}), third))
    assert list(unlike_evidence(run.record.shards)) == [X]
    (warning,) = [each for each in summarise(run).warnings if "did not run alike" in each]
    assert warning == (
        f"{X} did not run alike in 3 shards: CPU, fp32 100.0 % on shards 1, 3; CPU, bf16 90.0 %, fp32 10.0 % on shard 2"
    )


def test_the_verdict_is_by_the_same_rules() -> None:
    assert summarise(merged(a_run(), 3)).verdict == CONFIRMED
    assert summarise(merged(a_run(speedup=1.02, confirmed_speedup=1.02), 3)).verdict == REFUTED
    assert summarise(merged(a_run(), 3, {3: 1.45})).verdict == INCONCLUSIVE, "one of three machines gains nothing"


@pytest.mark.parametrize("own", ["torch-half", None])
def test_unlike_confirmations_leave_it_open(own: str | None) -> None:
    summary = summarise(merged(a_run(), 3, s2=own))
    assert (summary.verdict, summary.confirmation) == (INCONCLUSIVE, None)
    assert f"({X} on shard 1, 3; {own or 'nothing'} on shard 2)" in summary.headline
    assert f"run them again with `--backends {X}` alone" in summary.headline


def test_what_all_shards_refute_stays_refuted() -> None:
    slow = make_run({X: Candidate(0.8), "torch-half": Candidate(0.7)}, cases=24, asked=2)
    assert summarise(merged(slow, 3)).verdict == REFUTED


def test_what_is_of_one_time_line_or_machine_is_absent() -> None:
    run = merged(a_run(), 3)
    record = replace(run.record, checkpoint=replace(run.record.checkpoint, macs_per_tile=10**9))
    summary = summarise(replace(run, record=record))
    assert diagnose(run).drift is None
    assert diagnose(run).order, "within a case, which is of one machine"
    assert course_chart(summary) is None
    row = summary.row(X)
    assert row is not None
    assert (row.tile_fit.sizes, str(row.roofline.flops)) == (0, "nan")
    assert "Drift: in the reports of the shards" in render(summary, "markdown")


def test_a_machine_with_a_lower_clock_is_no_interference() -> None:
    run = merged(a_run(), 3)
    clocks = {1: 3000.0, 2: 2000.0, 3: 3000.0}
    variants = tuple(
        replace(v, samples=tuple(replace(s, system_load=SystemLoad(mhz=clocks[s.shard])) for s in v.samples))
        for v in run.variants
    )
    assert summarise(replace(run, variants=variants)).interference.flagged == 0
    loud = tuple(
        replace(v, samples=tuple(replace(s, system_load=SystemLoad(others=1.0)) for s in v.samples)) for v in variants
    )
    without = summarise(replace(run, variants=loud)).interference
    assert (without.flagged_pairs, without.headline) == (without.pairs, None), "no matter of the shards"
    first, *others = variants[0].samples
    slower = replace(first, system_load=SystemLoad(mhz=1500.0))
    run = replace(run, variants=(replace(variants[0], samples=(slower, *others)), *variants[1:]))
    assert summarise(run).interference.reasons == {SLOW: 1}


def test_autocorrelation_does_not_lead_from_one_machine_to_the_next() -> None:
    run = merged(a_run(), 3)
    later = tuple(
        replace(v, samples=tuple(replace(s, started_unix_s=s.started_unix_s + 1e6 * s.shard) for s in v.samples))
        for v in run.variants
    )
    before, after = diagnose(run).autocorrelation[X], diagnose(replace(run, variants=later)).autocorrelation[X]
    assert before == after
    assert BASELINE not in diagnose(run).autocorrelation


def test_against_a_reference_the_shards_are_a_level_too() -> None:
    reference = a_run()
    assert regression(reference, merged(reference, 3)).state == NO_REGRESSION
    unlike = merged(reference, 3, {1: 1.2, 3: 0.85})
    (change,) = [each for each in regression(reference, unlike).changes if each.name == X]
    assert (change.state, change.cases) == (UNDECIDED, 24), "by the cases alone it would be a regression or none"
    (back,) = [each for each in regression(unlike, reference).changes if each.name == X]
    assert back.speedup.high > 1.2, "also where it is the reference that was merged"


def test_two_shards_are_not_compared_with_each_other() -> None:
    first, second = (shard_of(a_run(), Shard(number, 2)) for number in (1, 2))
    assert ("shard", "1/2", "2/2") in controlled_differences(first.record, second.record)
