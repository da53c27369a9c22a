"""What one variant's scores differ by from the baseline's, or how far its masks agree, with the margins."""

from math import isfinite

from reports.charts.figure import Chart, canvas, chart
from reports.charts.forest import ROW, ForestRow, draw, span, zero_line
from reports.charts.marks import BETWEEN, plain
from reports.decision.accuracy import Metric, MetricKey
from reports.decision.verdict import metric_state, nearest_to_loss, severity
from reports.formatting import agreement, change, least_change, listed
from reports.records.record import AGREEMENT
from reports.summary.summary import Row, Summary

NAME = "accuracy"


def accuracy_chart(summary: Summary) -> Chart | None:
    """A forest plot of the compared variant's scores; None where nothing was scored.

    Of many structures those nearest to a loss are shown.
    """
    row = summary.compared
    if row is None:
        return None
    scored = {k: m for k, m in row.accuracy.metrics.items() if m.cases and isfinite(m.delta.estimate)}
    if not scored:
        return None
    by_agreement = row.accuracy.shown_by == AGREEMENT
    shown = nearest_to_loss(scored, lambda key: severity(key, scored[key], row.margins[key]))
    rows = [(_agreement_row if by_agreement else _difference_row)(row, key, scored[key]) for key in shown]
    smallest, largest = span(rows)
    pad = 0.06 * max(largest - smallest, 1e-4)
    name = plain(row.name)
    title = f"Agreement of {name} with the baseline" if by_agreement else f"What the scores of {name} differ by"
    with canvas(0.75 + ROW * len(rows)) as (figure, axes):
        draw(axes, rows, smallest - pad, (1.0 if by_agreement else max(largest, 0.0)) + pad)
        zero_line(axes, 1.0 if by_agreement else 0.0)
        axes.set_xlabel("score to the baseline's own output" if by_agreement else "difference to the baseline's score")
        return chart(figure, NAME, title, _words(summary, row, rows, len(scored)))


def _difference_row(row: Row, key: MetricKey, metric: Metric) -> ForestRow:
    margin, state = row.margins[key], metric_state(key, metric, row.margins[key])
    low = f" [{least_change(metric.delta.low)}]" if isfinite(metric.delta.low) else ""
    return ForestRow(
        label=key.label, state=state,
        figures=f"{change(metric.delta.estimate)}{low}{BETWEEN}margin {margin:g}{BETWEEN}{state}",
        value=metric.delta.estimate, low=metric.delta.low, high=metric.delta.high, required=-margin,
    )  # fmt: skip


def _agreement_row(row: Row, key: MetricKey, metric: Metric) -> ForestRow:
    required, state = 1 - row.margins[key], metric_state(key, metric, row.margins[key])
    low, high = (metric.baseline + bound for bound in (metric.delta.low, metric.delta.high))
    shown = f" [{agreement(low)}]" if isfinite(low) else ""
    return ForestRow(
        label=key.label, state=state,
        figures=f"{agreement(metric.value)}{shown}{BETWEEN}{required:g} required{BETWEEN}{state}",
        value=metric.value, low=low, high=high, required=required,
    )  # fmt: skip


def _words(summary: Summary, row: Row, rows: list[ForestRow], scored: int) -> str:
    name, baseline = plain(row.name), plain(summary.record.baseline)
    if row.accuracy.shown_by == AGREEMENT:
        what = (
            f"The scores between the masks of {name} and those of {baseline} itself, 1 where they are equal, with "
            "bounds (one-sided, 95 % confidence); the worst DSC of all cases has none. Nothing here is of a truth. "
            "The dashed mark of each row is what is required"
        )
    else:
        what = (
            f"What the mean scores of {name} differ by from those of {baseline} on the same cases, with bounds "
            "(one-sided, 95 % confidence). The dashed mark of each row is its margin"
        )
    many = f" Shown are {len(rows)} of {scored}: of structures those nearest to a loss." if len(rows) < scored else ""
    parts = listed([f"{plain(each.label, 60)} {each.figures.replace(BETWEEN, ', ')}" for each in rows], "; ")
    return (
        f"{what}, which the lower bound must reach. Circles are kept, crosses lost, open diamonds undecided.{many} "
        f"{parts}."
    )
