"""The history of a variant as a chart: its speedup run by run, the band of its noise, and where its level changed."""

from collections.abc import Sequence
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.charts.figure import BASELINE, GRID, INK, KEPT, LOST, MUTED, OTHER, WINNER, Chart, canvas, chart
from reports.charts.marks import plain
from reports.decision.history import FELL, Point, Series, Step, Trend
from reports.formatting import count, factor, percent

_HEIGHT = 3.0  # inches
_MOST_DATES = 7  # below an axis


def trend_chart(series: Series, trend: Trend, name: str) -> Chart | None:
    """The chart of a trend of `series`, called `name`; None with fewer than two points."""
    if len(trend.points) < 2:
        return None
    with canvas(_HEIGHT) as (figure, axes):
        axes.remove()
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
        _speedups(top, trend)
        _seconds(bottom, series, trend)
        places = range(0, len(trend.points), max(1, -(-len(trend.points) // _MOST_DATES)))
        bottom.set_xticks(list(places), [trend.points[i].entry.record.created[:10] for i in places])
        bottom.set_xlim(-0.5, len(trend.points) - 0.5)
        return chart(figure, name, f"{trend.name}: speedup by run", _words(series, trend))


def _speedups(axes: Axes, trend: Trend) -> None:
    for number, level in enumerate(trend.levels):
        places = [i for i, point in enumerate(trend.points) if point.level == number]
        across = [places[0] - 0.5, places[-1] + 0.5]
        if isfinite(level.low):
            axes.fill_between(across, level.low, level.high, color=GRID, linewidth=0, zorder=0)
        axes.plot(across, [level.estimate] * 2, color=MUTED, linewidth=1, zorder=1)
    for place, point in enumerate(trend.points):
        speedup = point.measured.speedup
        if isfinite(speedup.low):
            axes.plot([place, place], [speedup.low, speedup.high], color=WINNER, linewidth=1.2, zorder=2)
        axes.plot([place], [speedup.estimate], color=WINNER, marker="o", markersize=4, zorder=3)
    for step in trend.steps:
        _mark(axes, step, next(i for i, p in enumerate(trend.points) if p.entry is step.after))
    axes.set_ylabel("speedup")
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _mark(axes: Axes, step: Step, place: int) -> None:
    """A line between the two runs, with the change beside it."""
    colour = LOST if step.direction == FELL else KEPT
    axes.axvline(place - 0.5, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.text(
        place - 0.4, 1, f"{100 * (step.ratio.estimate - 1):+.1f} %", color=colour, fontweight="bold", va="top",
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip


def _seconds(axes: Axes, series: Series, trend: Trend) -> None:
    """Of the variant and of the baseline, from zero, so that their ratio is seen too."""
    places = range(len(trend.points))
    own = [point.measured.seconds for point in trend.points]
    baseline = [_baseline_seconds(series, point) for point in trend.points]
    axes.plot(places, baseline, color=BASELINE, marker="s", markersize=3, linewidth=1, label=plain(series.baseline))
    axes.plot(places, own, color=OTHER, marker="o", markersize=3, linewidth=1, label=plain(trend.name))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("s a case")
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.figure.legend(loc="outside upper left", ncols=2, fontsize=8, labelcolor=INK)


def _baseline_seconds(series: Series, point: Point) -> float:
    measured = point.entry.measured.get(series.baseline)
    return measured.seconds if measured else float("nan")


def _words(series: Series, trend: Trend) -> str:
    first, last = trend.points[0], trend.points[-1]
    said = [
        f"Speedup of {trend.name} over {series.baseline} in {count(len(trend.points), 'run')} on {series.machine}",
        f"from {_point_words(first)} to {_point_words(last)}",
    ]
    changes = [
        f"it {step.direction} by {percent(100 * abs(step.ratio.estimate - 1))} on {step.after.record.created[:10]}"
        for step in trend.steps
    ]
    noted = trend.note or _change_words(changes)
    band = " The band is where 95 % of further runs lie without a change." if trend.levels else ""
    return (
        f"{', '.join(said)}; {noted}.{band} Below, the median seconds a case, which are not interleaved between runs."
    )


def _change_words(changes: Sequence[str]) -> str:
    return f"{count(len(changes), 'change point')}: {', '.join(changes)}" if changes else "no change point"


def _point_words(point: Point) -> str:
    return f"{factor(point.measured.speedup.estimate)} on {point.entry.record.created[:10]}"
