"""The report's requirements: what the best variant reaches of what was asked for."""

from math import isfinite

from reports import formatting
from reports.decision.verdict import KEPT, LOST, UNDECIDED, judge_accuracy
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, count
from reports.render.commonmark import section, table
from reports.summary.summary import Requirement, Summary

_STATUS = {True: "met", False: "**not met**", None: "not shown"}


def requirements_section(summary: Summary) -> str:
    subject = summary.subject or "best variant"
    head = ["requirement", "target", summary.record.baseline, subject, "status"]
    rows = [*map(_requirement_row, summary.requirements), _accuracy_row(summary)]
    return section("Requirements", _data_note(summary), table(head, rows, (0, 4)))


def _requirement_row(requirement: Requirement) -> list[str]:
    if not requirement.applicable:
        return [requirement.label, f">= {requirement.target:.2f}", *[NOT_APPLICABLE] * 3]
    status = _STATUS[requirement.met] if isfinite(requirement.best) else NOT_MEASURED
    if requirement.key is not None:
        scores = [formatting.score(requirement.baseline), formatting.score(requirement.best)]
        return [requirement.label, f">= {requirement.target:.2f}", *scores, status]
    target = f">= {formatting.plain_percent(requirement.target)}"
    best = formatting.bounded(requirement.best, requirement.low, requirement.high)
    return [requirement.label, target, "0 %, the reference", best, status]


def _accuracy_row(summary: Summary) -> list[str]:
    """The accuracy against the baseline's, which a score far above its target may still have lost."""
    row = summary.row(summary.subject)
    state = judge_accuracy(row.accuracy, summary.claim)[0] if row and row.accuracy.cases else NOT_MEASURED
    status = {KEPT: _STATUS[True], LOST: _STATUS[False], UNDECIDED: _STATUS[None]}.get(state, NOT_MEASURED)
    return ["accuracy beside the baseline", "within margins", "the reference", state, status]


def _data_note(summary: Summary) -> str:
    record = summary.record
    sentence = f"Measured on {count(summary.cases, 'case')} of these data, on {record.host.gpu or 'the CPU'}."
    if record.data.demo:
        sentence += " **The data are the made-up volumes of the demo**: they show what an engine does to time "
        sentence += "and accuracy, and nothing about patients."
    if record.checkpoint.demo:
        sentence += " The network is the demo's own, trained on such volumes."
    targets = "The targets are those set for the reference model; a score is held against its target by its mean."
    return f"{sentence} {targets}"
