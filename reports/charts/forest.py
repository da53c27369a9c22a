"""A forest plot: a row for each estimate with its bounds and its figures, and a line for what is required."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports.charts.figure import GRID, INK, LOST, MUTED
from reports.charts.marks import MARKS, beside, plain

ROW = 0.265  # inches


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """An estimate.

    Attributes:
        figures: written beside it.
        state: one of `MARKS`.
        required: a line of its own, which its lower bound must reach.
    """

    label: str
    figures: str
    state: str
    value: float
    low: float = nan
    high: float = nan
    required: float = nan
    strong: bool = False


def draw(axes: Axes, rows: Sequence[ForestRow], least: float, most: float) -> None:
    """The rows from top to bottom, on an axis from `least` to `most`; an arrow stands for what lies beyond."""
    axes.set_xlim(least, most)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [plain(row.label) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    for i, row in enumerate(rows):
        mark = MARKS[row.state]
        if isfinite(row.low) and isfinite(row.high) and row.high >= least and row.low <= most:
            ends = [max(least, row.low), min(most, row.high)]
            axes.plot(ends, [i, i], color=mark.colour, linewidth=2.6 if row.strong else 1.6, solid_capstyle="butt")
        if least <= row.value <= most:
            axes.plot([row.value], [i], **mark.style, zorder=3)
        else:
            end, arrow = (least, "<") if row.value < least else (most, ">")
            axes.plot([end], [i], **mark.style | {"marker": arrow}, zorder=3, clip_on=False)
        if isfinite(row.required):
            axes.plot([row.required] * 2, [i - 0.36, i + 0.36], color=LOST, linewidth=1.6, linestyle=(0, (2, 1.2)))
        beside(axes, i, row.figures, strong=row.strong)
        if row.strong:
            axes.get_yticklabels()[i].set_fontweight("bold")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def required_line(axes: Axes, value: float, text: str) -> None:
    """A line through all rows at what is required, with its meaning above."""
    axes.axvline(value, color=LOST, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.text(value, 1.0, text, transform=axes.get_xaxis_transform(), va="bottom", ha="center", fontsize=8, color=INK)


def zero_line(axes: Axes, value: float = 0.0) -> None:
    """Where the baseline lies."""
    axes.axvline(value, color=MUTED, linewidth=0.9)


def span(rows: Sequence[ForestRow]) -> tuple[float, float]:
    """From the smallest to the largest figure of all rows, and what is required of them."""
    values = [value for row in rows for value in (row.value, row.low, row.high, row.required) if isfinite(value)]
    return min(values), max(values)
