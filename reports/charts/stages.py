"""Where the time of a case goes: its stages, the baseline's beside the variant's."""

from math import isfinite
from typing import Any

from matplotlib.patches import Patch

from reports.charts.figure import OTHER as OTHER_COLOUR
from reports.charts.figure import PAPER, SERIES, Chart, canvas, chart
from reports.charts.marks import beside, plain
from reports.formatting import seconds
from reports.records.record import STAGES
from reports.summary.summary import Row, Summary

NAME = "stages"
_HATCHES = ("//", "||", "xx", "", "\\\\", "++")  # of the stages, in their order: not by colour alone
_REST = "other"
_VISIBLE = 0.0005  # share below which a stage is not drawn


def stages_chart(summary: Summary) -> Chart | None:
    """Stacked bars of the baseline and the compared variant; None where no case was timed by its stages."""
    baseline, row = summary.row(summary.record.baseline), summary.compared
    rows = [each for each in (baseline, row) if each is not None and _parts(each)]
    if not rows:
        return None
    with canvas(1.0 + 0.42 * len(rows)) as (figure, axes):
        for i, each in enumerate(rows):
            start = 0.0
            for stage, part in _parts(each).items():
                if part < _VISIBLE:
                    continue
                width = part * each.latency.median
                axes.barh([i], [width], left=[start], height=0.62, **_look(stage))
                start += width
            beside(axes, i, seconds(each.latency.median) + (each.a_call or " a case"))
        axes.set_yticks(range(len(rows)), [plain(each.name) for each in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, None)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("seconds of the median case")
        drawn = [s for s in (*STAGES, _REST) if any(_parts(each).get(s, 0.0) >= _VISIBLE for each in rows)]
        keys = [Patch(label=stage, **_look(stage)) for stage in drawn]
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), fontsize=8, handlelength=1.8)
        return chart(figure, NAME, "Where the time of a case goes", _words(rows))


def _look(stage: str) -> dict[str, Any]:
    """Colour and hatching."""
    if stage not in STAGES:
        return {"facecolor": OTHER_COLOUR, "hatch": "--", "edgecolor": PAPER, "linewidth": 0.6}
    place = STAGES.index(stage)
    return {"facecolor": SERIES[place], "hatch": _HATCHES[place], "edgecolor": PAPER, "linewidth": 0.6}


def _parts(row: Row) -> dict[str, float]:
    """The share of each stage in all the time of the row's samples, and the rest of it."""
    if not isfinite(row.latency.median):
        return {}
    known = {stage: row.stages_share[stage] for stage in STAGES if isfinite(row.stages_share[stage])}
    return known | {_REST: max(0.0, 1 - sum(known.values()))} if known else {}


def _words(rows: list[Row]) -> str:
    said = []
    for row in rows:
        parts = ", ".join(f"{stage} {100 * part:.1f} %" for stage, part in _parts(row).items() if part >= _VISIBLE)
        said.append(f"{plain(row.name)} takes {seconds(row.latency.median)} in the median: {parts}")
    return f"The median time, split as all the time of the samples is. {'; '.join(said)}."
