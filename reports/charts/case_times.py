"""Each case's pair of times: the baseline's and the variant's, so that an outlier is seen."""

from collections.abc import Mapping

import numpy as np

from reports.charts.figure import GRID, INK, LOST, MUTED, Chart, canvas, chart, logarithmic_ticks
from reports.charts.marks import MARKS, label_points, plain
from reports.decision.speed import case_ns, pairs
from reports.decision.verdict import KEPT, UNDECIDED
from reports.formatting import count, factor, listed, plain_percent, seconds
from reports.records.record import ALL_CASES, CONFIRMATION, INTERLEAVED
from reports.stats.bootstrap import MIN_CASES
from reports.summary.summary import Row, Summary

NAME = "case-times"
_NAMED = 5  # outliers
_FENCE = 1.5  # interquartile ranges beyond the quartiles: Tukey, Exploratory Data Analysis (1977), chapter 2


def case_times_chart(summary: Summary) -> Chart | None:
    """A scatter of seconds on logarithmic axes; None where no case has a time of its own."""
    row = summary.compared
    times = _times(summary, row) if row else {}
    if row is None or not times:
        return None
    names = list(times)
    x, y = (np.array([times[name][i] for name in names]) for i in (0, 1))
    kept = 1 - summary.claim.min_reduction_pct / 100
    meets = y <= kept * x
    outliers = _outliers(names, x / y)
    ends = np.array([x.min(), x.max()]) * (0.85, 1.18)
    with canvas(4.0) as (figure, axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot(ends, ends, color=MUTED, linewidth=1)
        axes.plot(ends, kept * ends, color=LOST, linewidth=1.2, linestyle=(0, (4, 2)))
        for mark, chosen in ((MARKS[KEPT], meets), (MARKS[UNDECIDED], ~meets)):
            axes.plot(x[chosen], y[chosen], **mark.style | {"markersize": 5})
        less = f" {plain_percent(summary.claim.min_reduction_pct)} less"
        for end, words, side in ((ends[1], " as long", "bottom"), (kept * ends[1], less, "top")):
            axes.text(ends[1], end, words, va=side, fontsize=8, color=INK)
        axes.set_xlim(ends[0], ends[1] * (ends[1] / ends[0]) ** 0.12)
        axes.set_ylim(0.85 * min(y.min(), kept * ends[0]), 1.12 * max(ends[1], y.max()))
        others = [times[name] for name in names if name not in outliers]
        label_points(axes, [times[name] for name in outliers], [plain(name, 24) for name in outliers], others)
        axes.set_xlabel(f"seconds by {plain(summary.record.baseline)}")
        axes.set_ylabel(f"seconds by {plain(row.name)}")
        for axis in (axes.xaxis, axes.yaxis):
            logarithmic_ticks(axis)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        return chart(figure, NAME, "Each case by both", _words(summary, row, times, outliers, int(meets.sum())))


def _times(summary: Summary, row: Row) -> dict[str, tuple[float, float]]:
    """Median seconds of each case by the baseline and the variant, of the samples that the verdict rests on."""
    phase = CONFIRMATION if summary.confirmation is not None else INTERLEAVED
    of_case: dict[str, list[tuple[float, float]]] = {}
    for baseline, own in pairs(summary.run, row.name, phase):
        if own.case != ALL_CASES:
            of_case.setdefault(own.case, []).append((case_ns(baseline) / 1e9, case_ns(own) / 1e9))
    return {
        name: (float(np.median([b for b, _ in both])), float(np.median([own for _, own in both])))
        for name, both in sorted(of_case.items())
    }


def _outliers(names: list[str], speedups: np.ndarray) -> list[str]:
    """The cases whose speedup lies beyond the fences of a box plot, the furthest first."""
    if len(names) < MIN_CASES:
        return []
    logs = np.log(speedups)
    lower, middle, upper = np.quantile(logs, (0.25, 0.5, 0.75))
    reach = _FENCE * (upper - lower)
    order = np.argsort(-np.abs(logs - middle), kind="stable")
    beyond = [i for i in order if not lower - reach - 1e-9 <= logs[i] <= upper + reach + 1e-9]
    return [names[i] for i in beyond[:_NAMED]]


def _words(
    summary: Summary, row: Row, times: Mapping[str, tuple[float, float]], outliers: list[str], meets: int
) -> str:
    name, baseline = plain(row.name), plain(summary.record.baseline)
    speedups = {case: before / after for case, (before, after) in times.items()}
    least, most = min(speedups, key=speedups.__getitem__), max(speedups, key=speedups.__getitem__)

    def said(case: str) -> str:
        before, after = times[case]
        return f"{plain(case, 60)} {seconds(before)} and {seconds(after)} ({factor(speedups[case])})"

    apart = listed([said(case) for case in outliers], "; ")
    of_outliers = f"Far from the others, and named: {apart}." if outliers else "No case lies far from the others."
    return (
        f"The median seconds of each of {count(len(times), 'case')} by {baseline} (across) and {name} (up), "
        f"logarithmic; on the solid line both take as long, below the dashed one the claim's "
        f"{plain_percent(summary.claim.min_reduction_pct)} are saved, as in {meets} of them (circles; open diamonds "
        f"save less). Least gains {said(least)}, most {said(most)}. {of_outliers}"
    )
