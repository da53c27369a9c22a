"""The report's requirements: what the best backend reaches of what was asked for."""

from math import isfinite

from reports import formatting
from reports.decision.accuracy import METRICS
from reports.decision.verdict import KEPT, LOST, UNDECIDED, judge_accuracy
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, count
from reports.render.commonmark import section, table
from reports.summary.summary import Summary, Target

_STATUS = {True: "met", False: "**not met**", None: "not shown"}


def requirements_section(summary: Summary) -> str:
    subject = summary.subject or "best backend"
    head = ["requirement", "target", summary.record.baseline, subject, "status"]
    rows = [*map(_requirement, summary.targets), _kept(summary)]
    return section("Requirements", _where(summary), table(head, rows, (0, 4)))


def _requirement(found: Target) -> list[str]:
    if not found.applicable:
        return [METRICS[found.name], f">= {found.target:.2f}", *[NOT_APPLICABLE] * 3]
    if found.name in METRICS:
        cells = [f">= {found.target:.2f}", formatting.score(found.baseline), formatting.score(found.best)]
        return [METRICS[found.name], *cells, _STATUS[found.met] if isfinite(found.best) else NOT_MEASURED]
    best = formatting.bounded(found.best, found.low, found.high)
    status = _STATUS[found.met] if isfinite(found.best) else NOT_MEASURED
    return [
        "time reduction of a case",
        f">= {formatting.plain_percent(found.target)}",
        "0 %, the reference",
        best,
        status,
    ]


def _kept(summary: Summary) -> list[str]:
    """The accuracy against the baseline's, which a score far above its target may still have lost."""
    row = summary.row(summary.subject)
    state = judge_accuracy(row.accuracy, summary.claim)[0] if row and row.accuracy.cases else NOT_MEASURED
    status = {KEPT: _STATUS[True], LOST: _STATUS[False], UNDECIDED: _STATUS[None]}.get(state, NOT_MEASURED)
    return ["accuracy beside the baseline", "within margins", "the reference", state, status]


def _where(summary: Summary) -> str:
    record = summary.record
    said = f"Measured on {count(summary.cases, 'case')} of these data, on {record.host.get('gpu', 'the CPU')}."
    if record.data.get("demo"):
        said += " **The data are the made-up volumes of the demo**: they show what an engine does to time "
        said += "and accuracy, and nothing about patients."
    if record.checkpoint.get("demo"):
        said += " The network is the demo's own, trained on such volumes."
    return said + " The targets are those set for the reference model; a score is held against its target by its mean."
