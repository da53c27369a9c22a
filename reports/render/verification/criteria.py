"""Acceptance criteria, each with what is required, what was observed and what came of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from reports import formatting
from reports.decision.accuracy import CLASS_AGREEMENT, WORST_DSC, Metric, MetricKey
from reports.decision.verdict import (
    ABSENT,
    CONFIRMED,
    KEPT,
    LOST,
    REFUTED,
    UNDECIDED,
    judge_speed,
    metric_state,
)
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, plain_percent
from reports.records.record import AGREEMENT, COMPLETE
from reports.render.commonmark import bullets, section, table, text
from reports.summary.summary import Row, Summary

PASS, FAIL, OPEN = "pass", "fail", "undecided"
_OF_SPEED = {CONFIRMED: PASS, REFUTED: FAIL}
_OF_SCORE = {KEPT: PASS, LOST: FAIL, UNDECIDED: OPEN, NOT_APPLICABLE: "not applicable", ABSENT: "in no case"}


@dataclass(frozen=True)
class Criterion:
    """One of them; `bound` is that of one-sided 95 % confidence which decides."""

    name: str
    required: str
    observed: str
    bound: str
    result: str


def criteria(summary: Summary) -> list[Criterion]:
    """All that must hold for the verdict CONFIRMED, in the order of the claim; the run's own first."""
    row, of_run = summary.row(summary.subject), [_complete(summary), *_required(summary)]
    if row is None:
        refuted = summary.verdict == REFUTED
        return [*of_run, Criterion("a variant meets the claim", "yes", "no", "", FAIL if refuted else OPEN)]
    return [*of_run, *_time(summary, row), *_scores(row)]


def criteria_section(title: str, summary: Summary) -> str:
    """The table of criteria and results, and how the other variants came out."""
    head = ["", "criterion", "required", "observed", "bound", "result"]
    rows = [
        [str(number), text(own.name), own.required, own.observed, own.bound, _marked(own.result)]
        for number, own in enumerate(criteria(summary), 1)
    ]
    note = (
        "Bounds hold with one-sided 95 % confidence. *Pass*: the bound meets what is required. *Fail*: the measurement "
        "itself shows that it is missed. *Undecided*: neither is shown, and nothing may be concluded from it. All that "
        "apply must pass, so that their number needs no correction."
    )
    reasons = bullets([text(reason) for reason in summary.reasons])
    return section(title, table(head, rows, (0, 1, 5)), note, reasons, *_targets(summary), *_variants(summary))


def _marked(result: str) -> str:
    return result if result == PASS else f"**{result}**"


def _complete(summary: Summary) -> Criterion:
    complete = summary.record.status == COMPLETE
    return Criterion("the run came to its end", "yes", "yes" if complete else "no", "", PASS if complete else OPEN)


def _required(summary: Summary) -> Iterator[Criterion]:
    for name in summary.record.settings.required:
        missing = name in summary.missing_required
        what, state = f"the required variant {name} was measured", FAIL if missing else PASS
        yield Criterion(what, "yes", "no" if missing else "yes", "", state)


def _time(summary: Summary, row: Row) -> Iterator[Criterion]:
    """The reduction of the time, which rests on the confirmation where there is one."""
    required = f">= {plain_percent(summary.claim.min_reduction_pct)}"
    speed = summary.confirmation or row.case
    test = judge_speed(speed, summary.claim) if summary.confirmation else row.test
    result = _OF_SPEED.get(test.verdict, OPEN) if test else OPEN
    observed, bound = formatting.percent(speed.reduction.estimate), formatting.at_least(speed.reduction.low)
    yield Criterion(f"reduction of the {speed.scope}", required, observed, bound, result)
    confirmed = summary.confirmation is not None
    shown = f"{speed.pairs} pairs" if confirmed else "no"
    if summary.claim.variant is None:
        yield Criterion("shown on fresh samples after it was chosen", "yes", shown, "", PASS if confirmed else OPEN)


def _scores(row: Row) -> Iterator[Criterion]:
    for key, metric in row.accuracy.metrics.items():
        result = _OF_SCORE[metric_state(key, metric, row.margins[key])]
        by_agreement = row.accuracy.shown_by == AGREEMENT
        yield (_agreement if by_agreement else _difference)(key, metric, row.margins[key], result)


def _difference(key: MetricKey, metric: Metric, margin: float, result: str) -> Criterion:
    """A score of the truth: how much of it may be lost."""
    required, low = f">= -{margin:g}", metric.delta.low
    observed = f"{formatting.score(metric.value)}, {formatting.change(metric.delta.estimate)}"
    if not isfinite(metric.value):
        observed = NOT_MEASURED
    return Criterion(f"change of {key.label}", required, observed, formatting.least_change(low), result)


def _agreement(key: MetricKey, metric: Metric, margin: float, result: str) -> Criterion:
    """A score to the baseline's own output."""
    if key == CLASS_AGREEMENT:
        observed, bound = formatting.percent(100 * (1 - metric.value)), formatting.at_most(-100 * metric.delta.low)
        return Criterion("cases of another class", f"<= {plain_percent(100 * margin)}", observed, bound, result)
    low = "none, observed" if key.kind == WORST_DSC else formatting.agreement(metric.baseline + metric.delta.low)
    observed = formatting.agreement(metric.value)
    return Criterion(f"{key.label} to the baseline's", f">= {1 - margin:g}", observed, low, result)


def _targets(summary: Summary) -> tuple[str, ...]:
    """What the task asks of the network itself, which is no part of the claim."""
    targets = [own for own in summary.requirements if own.key is not None and own.applicable]
    if not targets:
        return ()
    status = {True: "reached", False: "**not reached**", None: NOT_MEASURED}
    rows = [
        [text(own.label), f">= {own.target:g}", formatting.score(own.baseline), formatting.score(own.best),
         status[own.met] if isfinite(own.best) else NOT_MEASURED]
        for own in targets
    ]  # fmt: skip
    head = ["target of the network's task", "target", text(summary.record.baseline), text(summary.cases_of or "none")]
    note = "Targets are of the network, whichever way it is run. They are no part of the claim."
    return note, table([*head, "mean over the cases"], rows, (0, 4))


def _variants(summary: Summary) -> tuple[str, ...]:
    """Every variant of the run: what was not chosen is a result too."""
    rows = [
        [
            text(row.name), "baseline" if row.is_baseline else "peer" if row.is_peer else row.verdict or row.status,
            "reference" if row.is_baseline else formatting.bounded(
                row.case.reduction.estimate, row.case.reduction.low, row.case.reduction.high),
            row.case_median,
        ]
        for row in summary.rows
    ]  # fmt: skip
    head = ["variant", "verdict", "time reduction [bounds]", "median"]
    return "All variants of the run, by the interleaved samples:", table(head, rows, (0, 1))
