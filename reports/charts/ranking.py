"""The ranking of a run's variants: what time each saves, with its bounds, the claim's line and its verdict."""

from math import isfinite

from reports.charts.figure import Chart, canvas, chart
from reports.charts.forest import ROW, ForestRow, draw, required_line, span, zero_line
from reports.charts.marks import BASELINE, BETWEEN, PEER, plain
from reports.decision.speed import Speed
from reports.decision.verdict import INCONCLUSIVE
from reports.formatting import bounded, listed, plain_percent
from reports.summary.summary import Row, Summary

NAME = "ranking"
_LEAST = -100.0  # percent: a variant that takes twice as long; beyond it stands an arrow


def ranking_chart(summary: Summary) -> Chart | None:
    """A forest plot of all variants that were timed, the fastest first; None without any beside the baseline."""
    timed = [row for row in summary.measured if isfinite(row.case.speedup.estimate)]
    if len(timed) < 2:
        return None
    timed.sort(key=lambda row: -row.case.speedup.estimate)
    rows = [_of_variant(row) for row in timed]
    if summary.confirmation is not None:
        rows.insert(0, _of_confirmation(summary, summary.confirmation))
    required = summary.claim.min_reduction_pct
    smallest, largest = span(rows)
    least, most = max(_LEAST, min(0.0, smallest) - 3), min(100.0, max(largest, required) + 6)
    title = "What each variant saves of the time of a case"
    with canvas(0.75 + ROW * len(rows)) as (figure, axes):
        draw(axes, rows, least, most)
        zero_line(axes)
        required_line(axes, required, f"required: {plain_percent(required)}")
        axes.set_xlabel("time saved, % of the baseline's")
        return chart(figure, NAME, title, _words(summary, rows))


def _of_variant(row: Row) -> ForestRow:
    r = row.case.reduction
    if row.is_baseline:
        return ForestRow(label=row.label, figures="the baseline", state=BASELINE, value=0.0)
    state = PEER if row.is_peer else row.verdict or INCONCLUSIVE
    of_state = "makes no claim" if row.is_peer else row.verdict or "not judged"
    return ForestRow(
        label=row.label, state=state,
        figures=f"{bounded(r.estimate, r.low, r.high)}{BETWEEN}{of_state}", value=r.estimate, low=r.low, high=r.high,
    )  # fmt: skip


def _of_confirmation(summary: Summary, speed: Speed) -> ForestRow:
    r = speed.reduction
    return ForestRow(
        label=f"{plain(summary.subject, 20)}, again",
        figures=f"{bounded(r.estimate, r.low, r.high)}{BETWEEN}the verdict",
        state=summary.verdict,
        value=r.estimate,
        low=r.low,
        high=r.high,
        strong=True,
    )


def _words(summary: Summary, rows: list[ForestRow]) -> str:
    again = ""
    if summary.confirmation is not None:
        again = f" The first row is the confirmation: {plain(summary.subject)} timed again on fresh samples."
    parts = listed([f"{plain(row.label)} {row.figures.replace(BETWEEN, ', ')}" for row in rows], "; ")
    return (
        f"The time that a case takes less than with {plain(summary.record.baseline)}, each with its lower and upper "
        f"bound (one-sided, 95 % confidence). A variant must save {plain_percent(summary.claim.min_reduction_pct)}, "
        f"the dashed line. Circles are confirmed, crosses refuted, open diamonds inconclusive, triangles peers.{again} "
        f"{parts}."
    )
