"""One run against another with the same controlled settings: did a variant become slower, less accurate, or get lost?

Runs are not interleaved, so their seconds are not comparable on a machine that others use too. Each run has its own
baseline beside every sample, though: what is compared is the speedup over it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan

from reports.decision.accuracy import Metric, MetricKey, compare_scores, paired_scores
from reports.decision.comparability import Difference, require_comparable, uncontrolled_differences
from reports.decision.speed import (
    PER_CALL,
    PER_CASE,
    case_ns,
    interleaved_speedup,
    log_speedups,
    log_speedups_of_calls,
    pairs,
)
from reports.decision.verdict import KEPT, LOST, SHOWN_BY, UNDECIDED, Claim, metric_state
from reports.formatting import (
    NOT_MEASURED,
    at_least,
    at_most,
    change,
    command_to_resume,
    count,
    least_change,
    listed,
    percent,
)
from reports.records.record import AGREEMENT, FAILED, INTERLEAVED, PENDING, SKIPPED, TRUTH
from reports.records.store import Run
from reports.stats.bootstrap import MIN_CASES, Interval, of_shards
from reports.stats.scores import exponential, independent_difference, median, paired_difference

REGRESSION, NO_REGRESSION = "regression", "no regression"  # or UNDECIDED
MAX_SLOWDOWN_PCT = 5.0

_MISSING = {FAILED: "it failed", SKIPPED: "it was skipped"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A variant in a run against itself in the reference.

    Attributes:
        state: `REGRESSION`, `NO_REGRESSION` or `UNDECIDED`; None where the reference has nothing to hold it against.
        reasons: why, or what would settle it.
        speedup: ratio of the speedups over each run's own baseline, this run over the reference, by case; below 1 is
            slower. 1 without bounds for the baseline.
        own, reference: the speedup over the baseline in this run and in the reference, each by all of its own cases.
        seconds: ratio of the median seconds a case, this run over the reference. Not interleaved.
        metrics: each score in both runs, and the paired difference by case; `states` says what came of it.
        flipped: cases whose predicted class is not that of the reference; `compared`: those with a class in both.
    """

    name: str
    state: str | None
    reasons: tuple[str, ...]
    cases: int = 0
    speedup: Interval = field(default_factory=Interval)
    own: Interval = field(default_factory=Interval)
    reference: Interval = field(default_factory=Interval)
    seconds: float = nan
    metrics: Mapping[MetricKey, Metric] = field(default_factory=dict)
    states: Mapping[MetricKey, str] = field(default_factory=dict)
    flipped: tuple[str, ...] = ()
    compared: int = 0


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A run against the reference: the state of the worst variant, and everything behind it."""

    reference: Run
    run: Run
    state: str
    max_slowdown_pct: float
    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]


def regression(reference: Run, run: Run, max_slowdown_pct: float = MAX_SLOWDOWN_PCT) -> Regression:
    """Compare `run` with `reference`, variant by variant, under the margins that the reference was started with.

    Raises:
        RecordError: they do not share controlled settings, weights, data, device and baseline.
    """
    require_comparable(reference, run)
    # Which are not ours to regress, but for a baseline.
    peers = {*reference.record.peers, *run.record.peers} - {reference.record.baseline}
    names = dict.fromkeys(b.name for b in (*reference.variants, *run.variants) if b.name not in peers)
    changes = tuple(_change(reference, run, name, max_slowdown_pct) for name in names)
    return Regression(
        reference=reference,
        run=run,
        state=worst(change.state for change in changes),
        max_slowdown_pct=max_slowdown_pct,
        changes=changes,
        differences=uncontrolled_differences(reference, run),
    )


def worst(states: Iterable[str | None]) -> str:
    """`REGRESSION` before `UNDECIDED` before `NO_REGRESSION`; undecided where nothing could be compared."""
    known = set(states) - {None}
    return REGRESSION if REGRESSION in known else NO_REGRESSION if known == {NO_REGRESSION} else UNDECIDED


def _change(reference: Run, run: Run, name: str, max_slowdown_pct: float) -> Change:
    before, now = _absence(reference, name), _absence(run, name)
    there = Interval() if before is not None else interleaved_speedup(reference, name)
    own = Interval() if now is not None else interleaved_speedup(run, name)
    if before is not None:
        return Change(name=name, state=None, reasons=(f"not compared: in the reference {before}",), own=own)
    if now is not None:
        resumed = name in run.record.settings.variants and run.variant(name).status == PENDING
        resume = f"{now}: `{command_to_resume(run.folder)}` would settle it"
        lost = f"it ran in the reference, and here {now}"
        state, reason = (UNDECIDED, resume) if resumed else (REGRESSION, lost)
        return Change(name=name, state=state, reasons=(reason,), reference=there)
    is_baseline = name == run.record.baseline
    cases, unit, speedup = (0, PER_CASE, Interval(1.0)) if is_baseline else _speedup_ratio(reference, run, name)
    speed_state, slower = (NO_REGRESSION, "") if is_baseline else _judge_speed(speedup, cases, unit, max_slowdown_pct)
    # `value` of this run, `baseline` of the reference, over the cases that have both
    metrics = compare_scores(reference.record, paired_scores(run.variant(name).scores, reference.variant(name).scores))
    claim = Claim.of(reference.record.settings)
    states = {key: _metric_state(key, metric, claim.margin(key, metric.own_margin)) for key, metric in metrics.items()}
    accuracy_state, lost = _judge_accuracy(metrics, states, claim)
    if is_baseline and claim.accuracy == AGREEMENT:  # which agrees with itself in any run, so that nothing is shown
        metrics, accuracy_state, lost = {}, NO_REGRESSION, ""
    flipped, compared = _flipped_cases(reference, run, name)
    return Change(
        name=name,
        state=worst((speed_state, accuracy_state)),
        reasons=tuple(reason for reason in (slower, lost) if reason),
        cases=cases,
        speedup=speedup,
        own=own,
        reference=there,
        seconds=_seconds_ratio(reference, run, name),
        metrics=metrics,
        states=states,
        flipped=flipped,
        compared=compared,
    )


def _absence(run: Run, name: str) -> str | None:
    """None if the variant was measured in this run; otherwise what became of it, as words after "here"."""
    if name not in run.record.settings.variants:
        return "it is not part of the run"
    variant = run.variant(name)
    if variant.status in _MISSING:
        return f"{_MISSING[variant.status]} ({variant.reason or 'no reason recorded'})"
    measured = any(sample.phase == INTERLEAVED for sample in variant.samples)
    return None if measured else "it was not measured before the run ended"


# --- time ------------------------------------------------------------------------------------------------------------


def _speedup_ratio(reference: Run, run: Run, name: str) -> tuple[int, str, Interval]:
    """How many cases, and the ratio of the speedups: geometric mean over the cases, bounds by bootstrap over them.

    Of a case's rounds and launches that counts in either run what counts in its own claim. Shards are a level of their
    own here too: those of this run, else of the reference. Calls over all cases have no partner in the other run: of
    these it is how many the run with fewer has, `PER_CALL`, and the ratio of both runs' means, with Welch's bounds.
    """
    before, now = (pairs(each, name, INTERLEAVED) for each in (reference, run))
    calls = [log_speedups_of_calls(paired, case_ns) for paired in (before, now)]
    if any(calls):
        return min(map(len, calls)), PER_CALL, exponential(independent_difference(*calls))
    old, new = (log_speedups(paired, case_ns) for paired in (before, now))
    cases = sorted(old.keys() & new.keys())
    shards = run.record.shards or reference.record.shards
    if not shards:
        log_ratio = paired_difference([new[case] for case in cases], [old[case] for case in cases])
        return len(cases), PER_CASE, exponential(log_ratio)
    by_shard = [[[[new[case] - old[case]]] for case in shard.cases if case in old and case in new] for shard in shards]
    return len(cases), PER_CASE, exponential(of_shards(by_shard).interval)


def _judge_speed(speedup: Interval, cases: int, unit: str, max_slowdown_pct: float) -> tuple[str, str]:
    """A regression only if even the favourable bound falls by more than is allowed; none if the other one does not."""
    least = 1 - max_slowdown_pct / 100
    fell = f"the speedup over the baseline {_change_text(speedup.estimate)}"
    allowed = f"a fall of {max_slowdown_pct:g} % is allowed"
    if cases < MIN_CASES:
        return UNDECIDED, f"{fell} on {count(cases, unit)}; at least {MIN_CASES} {unit}s in both runs would settle it"
    if speedup.high < least:
        return REGRESSION, f"{fell} (by at least {at_least(100 * (1 - speedup.high))} with 95 % confidence; {allowed})"
    if speedup.low >= least:
        return NO_REGRESSION, ""
    low, high = (100 * (bound - 1) for bound in (speedup.low, speedup.high))
    bounds = f"from {at_least(low)} to {at_most(high)}, each bound with 95 % confidence"
    return UNDECIDED, f"{fell} ({bounds}; {allowed}): more rounds or more cases in both runs would settle it"


def _change_text(ratio: float) -> str:
    if not isfinite(ratio):
        return f"is {NOT_MEASURED}"
    return f"{'fell' if ratio < 1 else 'rose'} by {percent(100 * abs(ratio - 1))}"


def _seconds_ratio(reference: Run, run: Run, name: str) -> float:
    old, new = (
        median([sample.case_ns for sample in r.variant(name).samples if sample.phase == INTERLEAVED])
        for r in (reference, run)
    )
    return new / old if old > 0 else nan


# --- accuracy --------------------------------------------------------------------------------------------------------


def _metric_state(key: MetricKey, metric: Metric, margin: float) -> str:
    """As for a variant against its baseline; what neither run could score is "not measured"."""
    return metric_state(key, metric, margin) if metric.cases or not metric.applicable else NOT_MEASURED


def _judge_accuracy(
    metrics: Mapping[MetricKey, Metric], states: Mapping[MetricKey, str], claim: Claim
) -> tuple[str, str]:
    for state, outcome in ((LOST, REGRESSION), (UNDECIDED, UNDECIDED)):
        reasons = [_metric_reason(key, metrics[key], claim) for key in metrics if states[key] == state]
        if reasons:
            settles = "; more cases in both runs would settle it" if state == UNDECIDED else ""
            return outcome, f"{SHOWN_BY[claim.accuracy]} {state}: {listed(reasons, '; ')}{settles}"
    if KEPT in states.values():
        return NO_REGRESSION, ""
    settles = "; data with ground truth would settle it" if claim.accuracy == TRUTH else ""
    return UNDECIDED, f"{SHOWN_BY[claim.accuracy]} undecided: no case has a score in both runs{settles}"


def _metric_reason(key: MetricKey, metric: Metric, claim: Claim) -> str:
    least = f", at least {least_change(metric.delta.low)} with 95 % confidence" if isfinite(metric.delta.low) else ""
    on = f" on {count(metric.cases, 'case')}"
    margin = claim.margin(key, metric.own_margin)
    return f"{key.label} {change(metric.delta.estimate)}{on}{least} (margin {margin:g})"


def _flipped_cases(reference: Run, run: Run, name: str) -> tuple[tuple[str, ...], int]:
    old = {score.case: score.subtype for score in reference.variant(name).scores if score.subtype is not None}
    new = {score.case: score.subtype for score in run.variant(name).scores if score.subtype is not None}
    both = [case for case in new if case in old]
    return tuple(case for case in both if old[case] != new[case]), len(both)
