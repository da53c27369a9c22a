"""Runs against a reference as a forest plot: of each variant the speedup by run, and by how much it changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.charts.figure import GRID, INK, KEPT, LOST, MUTED, UNDECIDED, Chart, canvas, chart
from reports.charts.marks import plain
from reports.decision.regression import NO_REGRESSION, REGRESSION, Regression
from reports.decision.verdict import UNDECIDED as OPEN
from reports.formatting import NOT_MEASURED, factor, listed, percent
from reports.stats.bootstrap import Interval

_REFERENCE = "reference"  # in the place of a state
_MARKS = {
    _REFERENCE: (INK, "s"), REGRESSION: (LOST, "X"), OPEN: (UNDECIDED, "D"), NO_REGRESSION: (KEPT, "o"),
    None: (MUTED, "o"),
}  # fmt: skip
_ROW = 0.22  # inches


@dataclass(frozen=True)
class _Row:
    """A line of the plot; `change` in per cent is NaN for the reference, and where nothing was compared.

    `state`: as of a `Change`, or `_REFERENCE`.
    """

    label: str
    speedup: Interval
    change: Interval
    state: str | None


def forest(regressions: Sequence[Regression], names: Sequence[str]) -> Chart | None:
    """The plot; None where no variant but the baseline has a speedup. `names`: of the reference, then of each run."""
    groups = {name: rows for name in _variants(regressions) if (rows := _rows(regressions, names, name))}
    if not groups:
        return None
    allowed = regressions[0].max_slowdown_pct
    with canvas(0.9 + _ROW * sum(len(rows) + 1 for rows in groups.values())) as (figure, axes):
        axes.remove()
        speedups, changes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        place, labels, across = 0, {}, speedups.get_yaxis_transform()
        for name, rows in groups.items():
            speedups.text(0, place, plain(name), fontweight="bold", va="center", transform=across)
            for row in rows:
                place += 1
                labels[place] = plain(row.label)
                colour, mark = _MARKS[row.state]
                _draw(speedups, place, row.speedup, colour, mark)
                if not isfinite(row.speedup.estimate):
                    said = f"{NOT_MEASURED}: {row.state}" if row.state else NOT_MEASURED
                    speedups.text(0.01, place, said, color=colour, va="center", transform=across)
                _draw(changes, place, row.change, colour, mark)
            place += 1
        speedups.set_yticks(list(labels), list(labels.values()))
        speedups.tick_params(axis="y", length=0)
        speedups.set_ylim(place - 0.3, -0.7)
        _label(speedups, changes, allowed)
        return chart(figure, "runs", "Speedups by run", _words(groups, allowed))


def _variants(regressions: Sequence[Regression]) -> list[str]:
    """In the order of the reference, without the baseline."""
    names = dict.fromkeys(change.name for each in regressions for change in each.changes)
    return [name for name in names if name != regressions[0].reference.record.baseline]


def _rows(regressions: Sequence[Regression], names: Sequence[str], name: str) -> list[_Row]:
    changes = [next((c for c in each.changes if c.name == name), None) for each in regressions]
    reference = next((c.reference for c in changes if c and isfinite(c.reference.estimate)), None)
    rows = [_Row(names[0], reference, Interval(), _REFERENCE)] if reference else []
    for label, change in zip(names[1:], changes, strict=True):
        if change:
            ratio = Interval(*(100 * (value - 1) for value in vars(change.speedup).values()))
            rows.append(_Row(label, change.own, ratio, change.state))
    return rows if any(isfinite(row.speedup.estimate) for row in rows) else []


def _draw(axes: Axes, place: int, value: Interval, colour: str, mark: str) -> None:
    if not isfinite(value.estimate):
        return
    if isfinite(value.low):
        axes.plot([value.low, value.high], [place, place], color=colour, linewidth=1.5, solid_capstyle="butt")
    axes.plot([value.estimate], [place], color=colour, marker=mark, markersize=5, linestyle="none")


def _label(speedups: Axes, changes: Axes, allowed: float) -> None:
    speedups.set_xlabel("speedup over the baseline")
    speedups.axvline(1, color=GRID, linewidth=1, zorder=0)
    speedups.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    speedups.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    changes.axvline(0, color=GRID, linewidth=1, zorder=0)
    changes.axvline(-allowed, color=LOST, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    low, high = changes.get_xlim()
    changes.set_xlim(min(low, -1.6 * allowed), max(high, allowed))
    changes.set_xlabel("change, %")
    changes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    changes.tick_params(axis="y", length=0, labelleft=False)


def _words(groups: dict[str, list[_Row]], allowed: float) -> str:
    """What the plot shows, for those who do not see it."""
    variants = [f"{name}: {', '.join(map(_row_words, rows))}" for name, rows in groups.items()]
    return (
        "Speedup over the baseline of each variant, the reference first, then each run, and its change against the "
        f"reference, with one-sided 95 % bounds. A fall of {allowed:g} % is allowed (dashed); a cross is a regression, "
        f"a diamond is undecided. {listed(variants, '; ')}."
    )


def _row_words(row: _Row) -> str:
    sign = "+" if row.change.estimate >= 0 else ""
    change = f"{sign}{percent(row.change.estimate)}, " if isfinite(row.change.estimate) else ""
    state = f" ({change}{row.state})" if row.state not in (None, _REFERENCE) else ""
    return f"{row.label} {factor(row.speedup.estimate)}{state}"
