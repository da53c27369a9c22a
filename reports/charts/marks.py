"""A shape and a colour for each state, so that nothing depends on either alone, and names that fit beside an axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from matplotlib.axes import Axes

from reports.charts.figure import KEPT as KEPT_COLOUR
from reports.charts.figure import LOST as LOST_COLOUR
from reports.charts.figure import MUTED, PAPER
from reports.charts.figure import UNDECIDED as UNDECIDED_COLOUR
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, KEPT, LOST, REFUTED, UNDECIDED
from reports.formatting import one_line

BASELINE, PEER = "baseline", "peer"
NAME_LENGTH = 30  # characters beside an axis
BETWEEN = " · "  # figures beside an axis, of which SVG would make one space of several
_ASIDE = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # directions from a point
_LABEL = 7.5  # points, of a label's font
_RINGS = (7.0, 14.0, 22.0)  # points from it


@dataclass(frozen=True)
class Mark:
    """How a state looks."""

    shape: str
    colour: str
    filled: bool = True

    @property
    def style(self) -> dict[str, Any]:
        """For `Axes.plot`."""
        return {
            "marker": self.shape, "color": self.colour, "linestyle": "none", "markersize": 5.5,
            "markerfacecolor": self.colour if self.filled else PAPER,
            "markeredgewidth": 2.2 if self.shape == "x" else 1.4,
        }  # fmt: skip


_GOOD, _BAD, _OPEN = Mark("o", KEPT_COLOUR), Mark("x", LOST_COLOUR), Mark("D", UNDECIDED_COLOUR, filled=False)
MARKS = {
    CONFIRMED: _GOOD, REFUTED: _BAD, INCONCLUSIVE: _OPEN, KEPT: _GOOD, LOST: _BAD, UNDECIDED: _OPEN,
    BASELINE: Mark("s", MUTED), PEER: Mark("^", MUTED, filled=False),
}  # fmt: skip
"""Of verdicts, of the states of a score, and of what makes no claim."""


def plain(name: object, most: int = NAME_LENGTH) -> str:
    """A name from elsewhere on one line, without what XML cannot hold, shortened to `most` characters in its middle."""
    line = one_line(name)
    if len(line) <= most:
        return line
    head = (most - 1) * 2 // 3
    return f"{line[:head]}…{line[len(line) - (most - 1 - head) :]}"


def beside(axes: Axes, row: float, figures: str, *, strong: bool = False) -> None:
    """Write `figures` to the right of the axes in this row."""
    axes.text(
        1.015, row, figures, transform=axes.get_yaxis_transform(), va="center", fontsize=8,
        fontweight="bold" if strong else "normal",
    )  # fmt: skip


def label_points(
    axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], others: Sequence[tuple[float, float]] = ()
) -> None:
    """Write each label beside its point, where no point and no earlier label lies; `others` are points without one.

    The axes' limits must be set, as places are taken from them. Greedy: a label takes the nearest free place.
    """
    scale = 72 / axes.figure.dpi
    boxes = [(*(scale * axes.transData.transform(point)), 5.0, 5.0) for point in (*points, *others)]
    for point, label in zip(points, labels, strict=True):
        x, y = scale * axes.transData.transform(point)
        half = (0.29 * _LABEL * len(label), 0.62 * _LABEL)  # of its width and height, in points
        places = [(dx * (ring + (half[0] if dx else 0)), dy * ring) for ring in _RINGS for dx, dy in _ASIDE]

        def room(place: tuple[float, float], x: float = x, y: float = y, half: tuple[float, float] = half) -> float:
            return min(
                (max(abs(x + place[0] - a) - half[0] - w, abs(y + place[1] - b) - half[1] - h)
                 for a, b, w, h in boxes), default=inf,
            )  # fmt: skip

        best = next((place for place in places if room(place) >= -1.5), None) or max(places, key=room)
        boxes.append((x + best[0], y + best[1], *half))
        axes.annotate(label, point, best, textcoords="offset points", ha="center", va="center", fontsize=_LABEL)
