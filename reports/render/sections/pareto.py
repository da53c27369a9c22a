"""The report's time against accuracy, for runs with recipes."""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from reports import formatting
from reports.analysis.pareto import compared_keys, compared_words
from reports.decision.accuracy import MetricKey
from reports.decision.verdict import LOST, SHOWN_BY, judge_accuracy
from reports.formatting import NOT_MEASURED
from reports.records.record import TRUTH, VariantSettings
from reports.render.commonmark import section, table, text
from reports.summary.summary import Row, Summary

_TTA = "TTA"
_ITS_OWN = "its own"  # of a command, of which nothing is known
_SETTINGS: Mapping[str, Callable[[VariantSettings], str]] = {
    "backend": lambda own: own.backend,
    "ROI": lambda own: _ITS_OWN if own.command else own.roi,
    "overlap": lambda own: _ITS_OWN if own.command else f"{own.overlap:g}",
    "batch": lambda own: _ITS_OWN if own.command else str(own.batch),
    _TTA: lambda own: own.tta,
    "rewrites": lambda own: ", ".join(own.rewrites) or "none",
}


def pareto_section(summary: Summary) -> str:
    """Every variant ranked by time, with what it is made of; empty where the run has no recipes."""
    rows = [row for row in summary.measured if isfinite(row.case.speedup.estimate)]
    if not summary.record.settings.recipes or not rows:
        return ""
    rows.sort(key=lambda row: -row.case.speedup.estimate)
    best, by_truth = summary.pareto_front, summary.claim.accuracy == TRUTH
    shown, near = ("accuracy", "accurate") if by_truth else ("agreement", "near to the baseline")
    made_of = _settings_columns(rows)
    head = ["variant", *made_of, "case median", "speedup",
            *(text(key.label) for key in _keys(summary, rows[0])), shown, "on the front"]  # fmt: skip
    body = [_variant_row(row, made_of, summary, row.name in best) for row in rows]
    timed = " that was timed on all cases" if any(row.few_cases for row in rows) else ""
    scores = compared_words(rows[0].accuracy)
    note = (
        f"The fastest first. *On the front*: nothing else in this table{timed} is at least as fast and at least as "
        f"{near} in {scores}, by the estimates. {_changing(made_of)} change what the network is given, so a "
        f"recipe's {shown} is judged like any variant's, against the baseline{_whose(summary)}."
    )
    return section(
        "Time against accuracy",
        table(head, body, (0, 1, 2, *range(5, 1 + len(made_of)), len(head) - 2, len(head) - 1)),
        note,
        _lost_note(rows, summary),
    )


def _whose(summary: Summary) -> str:
    """Which settings the baseline has; those of a recipe or a peer are its own."""
    baseline = summary.row(summary.record.baseline)
    own = baseline is not None and (baseline.settings.recipe or baseline.settings.command or baseline.is_peer)
    return f" {text(summary.record.baseline)} with its own settings" if own else " with the run's own settings"


def _keys(summary: Summary, row: Row) -> tuple[MetricKey, ...]:
    return summary.shown(compared_keys(row.accuracy))


def _variant_row(row: Row, made_of: Iterable[str], summary: Summary, on_front: bool) -> list[str]:
    form = formatting.score if summary.claim.accuracy == TRUTH else formatting.agreement
    scores = [form(row.accuracy.metric(key).value) for key in _keys(summary, row)]
    state = "reference" if row.is_baseline else _accuracy_state(row, summary)
    return [
        text(row.name), *(_SETTINGS[name](row.settings) for name in made_of),
        row.case_median,
        formatting.factor(row.case.speedup.estimate), *scores, state, "yes" if on_front else "no",
    ]  # fmt: skip


def _settings_columns(rows: Iterable[Row]) -> list[str]:
    """Those of `_SETTINGS`; test-time augmentation only where there is any."""
    mirrored = any(row.settings.tta != "none" for row in rows)
    return [name for name in _SETTINGS if mirrored or name != _TTA]


def _changing(made_of: list[str]) -> str:
    return "ROI, overlap and test-time augmentation" if _TTA in made_of else "ROI and overlap"


def _accuracy_state(row: Row, summary: Summary) -> str:
    return judge_accuracy(row.accuracy, summary.claim)[0] if row.accuracy.cases else NOT_MEASURED


def _lost_note(rows: Iterable[Row], summary: Summary) -> str:
    failing = [row.name for row in rows if not row.is_baseline and _accuracy_state(row, summary) == LOST]
    lost = SHOWN_BY[summary.claim.accuracy].capitalize()
    return f"{lost} lost, so not to be used: {text(', '.join(failing))}." if failing else ""
