"""A command that ran all cases in one call: its pairs, what is resampled, and what a claim needs."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
from scipy import stats

from reports.decision.outcome import converged, judge_candidates
from reports.decision.regression import NO_REGRESSION, REGRESSION, regression
from reports.decision.speed import case_ns, pairs, speed
from reports.decision.verdict import UNDECIDED, Claim
from reports.records.record import ALL_CASES, INTERLEAVED, CommandRecord, Sample, VariantRecord
from reports.records.store import Run
from reports.render import render
from reports.stats.bootstrap import of_mean
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, made_of, make_run

CALLS = (400_000_000, 410_000_000, 395_000_000, 402_000_000, 398_000_000)


def run_with_calls(calls: tuple[int, ...] = CALLS, cases: int = 6) -> Run:
    """A baseline that ran case by case, launched anew before each round, beside calls that took so long."""
    run = make_run({"other": Candidate(1.0)}, cases=cases, rounds=len(calls))
    baseline = run.variant(BASELINE)
    samples = tuple(replace(sample, launch=sample.round) for sample in baseline.samples)
    folder = CommandRecord(line="p {images_dir} {masks_dir}", mode="folder")
    settings = made_of("calls", command=folder)
    classes = dict.fromkeys(case.name for case in run.record.cases)
    called = tuple(
        Sample(
            phase=INTERLEAVED, round=n, launch=n, case=ALL_CASES, case_ns=ns, stages_ns={}, device_ns=None, tiles=0,
            subtype=None, started_unix_s=1e9 + n, cpu_ns=1, classes=classes,
        )
        for n, ns in enumerate(calls)
    )  # fmt: skip
    variants = (
        replace(baseline, samples=samples),
        VariantRecord(name="calls", settings=settings, status="ok", samples=called, scores=baseline.scores),
    )
    named = {variant.name: variant.settings for variant in variants}
    record = replace(run.record, settings=replace(run.record.settings, variants=named))
    return Run(record, variants)


def sums(run: Run) -> list[int]:
    samples = [sample for sample in run.variant(BASELINE).samples if sample.phase == INTERLEAVED]
    return [sum(s.case_ns for s in samples if s.round == n) for n in range(len(CALLS))]


def test_a_call_is_held_against_the_sum_of_the_cases_of_its_round():
    run = run_with_calls()
    paired = pairs(run, "calls", INTERLEAVED)
    assert [(old.case_ns, new.case_ns) for old, new in paired] == list(zip(sums(run), CALLS, strict=True))
    found = speed(paired, case_ns)
    assert (found.unit, found.cases, found.launches) == ("call", 5, 5)
    expected = of_mean([log(old / new) for old, new in zip(sums(run), CALLS, strict=True)])
    assert found.log_speedup == expected
    np.testing.assert_array_equal(found.log_speedup.resampled, expected.resampled)


def test_the_other_way_round_the_cases_of_the_candidate_are_summed():
    run = run_with_calls()
    turned = replace(run, record=replace(run.record, baseline="calls"))
    old, new = pairs(turned, BASELINE, INTERLEAVED)[0]
    assert (old.case_ns, new.case_ns) == (CALLS[0], sums(run)[0])
    row = summarise(turned).row(BASELINE)
    assert row.latency.median < sums(run)[0] / 4e9, "its own row shows the times of its cases"
    assert summarise(turned).cases == 6


def test_every_table_says_that_the_time_is_of_a_call():
    run = run_with_calls()
    row = summarise(run).row("calls")
    assert row.case_median == "400 ms a call"
    whole, verified = render(summarise(run), "markdown"), render(summarise(run), "verification")
    for document, rows in ((whole, 2), (verified, 1)):
        shown = [line for line in document.splitlines() if line.startswith("| calls") and " 400 ms" in line]
        assert len(shown) >= rows
        assert all("400 ms a call" in line or "a whole call" in line for line in shown), shown


def test_a_round_that_lacks_a_case_has_no_pair():
    run = run_with_calls()
    baseline = run.variant(BASELINE)
    short = replace(baseline, samples=baseline.samples[1:])
    assert len(pairs(replace(run, variants=(short, run.variants[1])), "calls", INTERLEAVED)) == len(CALLS) - 1


def test_calls_of_one_launch_count_once():
    run = run_with_calls()
    one = [
        replace(variant, samples=tuple(replace(s, launch=s.round // 3) for s in variant.samples))
        for variant in run.variants
    ]
    found = speed(pairs(replace(run, variants=tuple(one)), "calls", INTERLEAVED), case_ns)
    assert (found.cases, found.pairs) == (2, 5)


@pytest.mark.parametrize(("calls", "verdict", "reason"), [
    (CALLS[:4], "INCONCLUSIVE", "on 4 calls, but a claim with 95 % confidence needs at least 5 calls"),
    (CALLS, "CONFIRMED", "time of a call over all cases reduced by"),
])  # fmt: skip
def test_a_claim_needs_five_calls_however_few_cases_there_are(calls, verdict, reason):
    run = run_with_calls(calls, cases=3)
    claim = Claim.of(run.record.settings)
    test = judge_candidates(run, claim)["calls"].judgement.test
    assert test.verdict == verdict
    assert reason in test.reason
    assert converged(run, claim) == (verdict == "CONFIRMED")


@pytest.mark.parametrize(("factor", "state"), [(1.0, NO_REGRESSION), (2.0, REGRESSION), (1.05, UNDECIDED)])
def test_calls_of_two_runs_are_compared_by_their_means(factor: float, state: str):
    before, after = run_with_calls(cases=16), run_with_calls(tuple(round(ns * factor) for ns in CALLS), 16)
    (change,) = [each for each in regression(before, after).changes if each.name == "calls"]
    paired = [pairs(run, "calls", INTERLEAVED) for run in (after, before)]
    logs = [np.log([old.case_ns / new.case_ns for old, new in own]) for own in paired]
    welch = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.9)
    assert (change.state, change.cases) == (state, 5)
    assert change.speedup.estimate == pytest.approx(1 / factor)
    assert (change.speedup.low, change.speedup.high) == pytest.approx((np.exp(welch.low), np.exp(welch.high)))


def test_too_few_calls_of_two_runs_decide_nothing():
    changes = regression(run_with_calls(), run_with_calls(CALLS[:2])).changes
    (change,) = [each for each in changes if each.name == "calls"]
    assert change.state == UNDECIDED
    assert "on 2 calls; at least 5 calls in both runs would settle it" in change.reasons[0]
