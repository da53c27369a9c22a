"""Time against accuracy: which variants no other one beats in both."""

from math import inf, isfinite, isnan

from matplotlib.ticker import FuncFormatter

from reports.analysis.pareto import compared_words
from reports.charts.figure import GRID, INK, LOST, MUTED, WINNER, Chart, canvas, chart, logarithmic_ticks
from reports.charts.marks import Mark, label_points, plain
from reports.decision.accuracy import MetricKey
from reports.formatting import factor, listed
from reports.records.record import AGREEMENT
from reports.summary.summary import Row, Summary

NAME = "trade-off"
_MOST = 1000.0  # margins, beyond which a loss is drawn no further down
_LINEAR = 1.0  # margins around 0, beyond which the axis is logarithmic
_FRONT, _BEATEN = Mark("o", WINNER), Mark("o", MUTED, filled=False)


def trade_off_chart(summary: Summary) -> Chart | None:
    """A scatter of speedup and the score nearest to a loss; None below two variants with both."""
    points = {}
    for row in summary.measured:
        worst = _worst(row)
        if worst is not None and isfinite(row.case.speedup.estimate):
            points[row.name] = (row, row.case.speedup.estimate, *worst)
    if len(points) < 2:
        return None
    ordered = sorted(points.values(), key=lambda point: -point[1])
    front = summary.pareto_front
    by_agreement = summary.record.settings.accuracy == AGREEMENT
    lowest = min(-1.3, *(at for _, _, at, _ in ordered))
    with canvas(max(3.4, 0.5 + 0.19 * len(ordered))) as (figure, axes):
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=_LINEAR)
        axes.axhline(0, color=MUTED, linewidth=0.9)
        axes.axhline(-1, color=LOST, linewidth=1.2, linestyle=(0, (4, 2)))
        for row, speedup, at, _ in ordered:
            axes.plot([speedup], [at], **(_FRONT if row.name in front else _BEATEN).style, zorder=3)
        axes.set_ylim(1.6 * lowest, max(1.3, *(1.5 * at for _, _, at, _ in ordered)))
        axes.set_xlim(min(speedup for _, speedup, _, _ in ordered) / 1.12, ordered[0][1] * 1.12)
        places = [(speedup, at) for _, speedup, at, _ in ordered]
        label_points(axes, places, [str(i) for i in range(1, len(ordered) + 1)])
        for i, (row, speedup, _, _) in enumerate(ordered):
            said = f"{i + 1} {'●' if row.name in front else '○'} {plain(row.name, 26)}, {factor(speedup)}"
            down = 1 - 0.19 * i / (figure.get_figheight() - 0.55)
            axes.text(1.02, down, said, transform=axes.transAxes, va="top", fontsize=8)
        axes.text(0.01, -1, "margin", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8, color=INK)
        axes.set_xlabel("times as fast as the baseline, logarithmic")
        score = "agreement" if by_agreement else "score"
        axes.set_ylabel(f"worst {score}'s change, in its margins,\nlogarithmic beyond one")
        logarithmic_ticks(axes.xaxis)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        return chart(figure, NAME, "Time against accuracy", _words(summary, ordered, by_agreement))


_Point = tuple[Row, float, float, MetricKey]


def _worst(row: Row) -> tuple[float, MetricKey] | None:
    """The smallest change of a score in units of its margin, and which; of a margin of 0 only whether it fell."""
    changes = []
    for key, metric in row.accuracy.metrics.items():
        margin = row.margins.get(key, 0.0)
        by = metric.delta.estimate
        if isnan(by):
            continue
        changes.append((by / margin if margin else -inf if by < 0 else 0.0, key))
    if not changes:
        return None
    at, key = min(changes, key=lambda each: each[0])
    return max(at, -_MOST), key


def _words(summary: Summary, ordered: list[_Point], by_agreement: bool) -> str:
    front = listed([plain(name) for name in summary.pareto_front])
    score = "agreement with the baseline" if by_agreement else "score"
    each = [
        f"{i} {plain(row.name)} {factor(speedup)}, {plain(key.label, 40)} {at:+.2g} margins"
        for i, (row, speedup, at, key) in enumerate(ordered, 1)
    ]
    few = " of what was timed on all cases" if any(row.few_cases for row, *_ in ordered) else ""
    lowest = min(at for _, _, at, _ in ordered)
    cut = f" What lost more than {_MOST:g} margins stands there." if lowest <= -_MOST else ""
    return (
        f"Each variant by its speedup and by the {score} that fell most, in units of its margin: 0 is the baseline's, "
        "at the dashed line the whole margin is used up. Both axes are logarithmic, the upright one beyond one margin."
        f"{cut} Numbers are ranks by time. Nothing{few} is at least as fast and at least as near in "
        f"{compared_words(ordered[0][0].accuracy)} as these, the filled ones: {front}. {listed(each, '; ')}."
    )
