"""The course of a run: when each variant was timed, by which launch, in which phase, and what interfered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log, nan
from statistics import median

from matplotlib.axes import Axes

from reports.analysis.interference import flags, typical_mhz
from reports.charts.figure import BASELINE, GRID, INK, LOST, MUTED, WINNER, Chart, canvas, chart
from reports.charts.marks import plain
from reports.formatting import count
from reports.records.record import CONFIRMATION, INTERLEAVED, Sample
from reports.summary.summary import Summary

NAME = "course"
MOST = 1500  # samples that are drawn; of more each n-th, and all beside which something interfered
_PAUSE_S = 300.0  # a longer time without any sample, such as a build or a resumed run, is cut down to the next
_SHOWN_PAUSE_S = 30.0
_REACH = log(1.5)  # of a case's usual time: this much longer or shorter is drawn at the edge of the row
_BREADTH = 0.36  # of a row, to either side
_LEAST = 0.0012  # of the time shown: no sample is drawn shorter


@dataclass(frozen=True)
class _Timed:
    """A sample on the axis: where it begins and ends in minutes, and how far from its case's usual time it lies."""

    sample: Sample
    start: float
    end: float
    height: float
    flagged: bool


def course_chart(summary: Summary, most: int = MOST) -> Chart | None:
    """A row for each variant, a dash for each sample, of which about `most` are drawn.

    None where nothing was timed, and of shards, which have a time line each.
    """
    run = summary.run
    if run.record.shards:
        return None
    timed = [s for v in run.variants for s in v.samples if s.phase in (INTERLEAVED, CONFIRMATION)]
    if not timed:
        return None
    clock, pauses = _clock(timed)
    usual_mhz = typical_mhz(run)[0]
    rows = [v for v in run.variants if any(s.phase in (INTERLEAVED, CONFIRMATION) for s in v.samples)]
    last = max(clock[s.started_unix_s] + s.case_ns / 1e9 for s in timed) / 60
    step = ceil(len(timed) / most)
    drawn = 0
    with canvas(1.0 + 0.33 * len(rows)) as (figure, axes):
        for i, variant in enumerate(rows):
            samples = [s for s in variant.samples if s.phase in (INTERLEAVED, CONFIRMATION)]
            every = _placed(samples, clock, usual_mhz, _LEAST * last)
            shown = [each for n, each in enumerate(every) if n % step == 0 or each.flagged]
            drawn += len(shown)
            colour = BASELINE if variant.name == run.record.baseline else WINNER
            colour = colour if variant.name in (run.record.baseline, summary.subject) else MUTED
            axes.axhline(i, color=colour, linewidth=0.4)
            axes.plot(*_dashes(shown, i), color=colour, linewidth=2.2, solid_capstyle="butt")
            flagged = [each for each in shown if each.flagged]
            axes.plot([each.start for each in flagged], [i - each.height for each in flagged], linestyle="none",
                      marker="x", markersize=5, color=LOST, zorder=3)  # fmt: skip
            starts = _launches(every)
            axes.plot(starts, [i + 0.42] * len(starts), linestyle="none", marker="^", markersize=4, color=INK,
                      clip_on=False)  # fmt: skip
        _shade_confirmation(axes, timed, clock, last)
        for at in pauses:
            axes.axvline(at / 60, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_yticks(range(len(rows)), [plain(v.name) for v in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, last * 1.01)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("minutes")
        return chart(figure, NAME, "The course of the run", _words(summary, timed, drawn, len(pauses), usual_mhz))


def _clock(samples: Iterable[Sample]) -> tuple[dict[float, float], list[float]]:
    """Seconds since the first sample by each sample's start, with long pauses cut down, and where these are."""
    clock: dict[float, float] = {}
    pauses: list[float] = []
    cut, end, first = 0.0, nan, nan
    for sample in sorted(samples, key=lambda s: s.started_unix_s):
        first = sample.started_unix_s if first != first else first
        if sample.started_unix_s - end > _PAUSE_S:
            cut += sample.started_unix_s - end - _SHOWN_PAUSE_S
            pauses.append(end - first - (cut - (sample.started_unix_s - end - _SHOWN_PAUSE_S)) + _SHOWN_PAUSE_S / 2)
        clock[sample.started_unix_s] = sample.started_unix_s - first - cut
        end = sample.started_unix_s + sample.case_ns / 1e9
    return clock, pauses


def _placed(samples: Sequence[Sample], clock: dict[float, float], usual_mhz: float, shortest: float) -> list[_Timed]:
    """Of one variant, in the order of time."""
    of_case: dict[str, list[int]] = {}
    for sample in samples:
        of_case.setdefault(sample.case, []).append(sample.case_ns)
    usual = {case: median(values) for case, values in of_case.items()}
    placed = []
    for sample in sorted(samples, key=lambda s: s.started_unix_s):
        start = clock[sample.started_unix_s] / 60
        off = log(sample.case_ns / usual[sample.case]) / _REACH
        height = _BREADTH * max(-1.0, min(1.0, off))
        end = start + max(sample.case_ns / 6e10, shortest)
        placed.append(_Timed(sample, start, end, height, bool(flags(sample, usual_mhz))))
    return placed


def _dashes(shown: Sequence[_Timed], row: int) -> tuple[list[float], list[float]]:
    """One line with gaps, which is a fraction of the bytes of a mark for each."""
    across = [at for each in shown for at in (each.start, each.end, nan)]
    up = [at for each in shown for at in (row - each.height, row - each.height, nan)]
    return across, up


def _launches(placed: Sequence[_Timed]) -> list[float]:
    """When the first sample of each launch began."""
    first: dict[tuple[str, int], float] = {}
    for each in placed:
        first.setdefault((each.sample.phase, each.sample.launch), each.start)
    return list(first.values())


def _shade_confirmation(axes: Axes, timed: Sequence[Sample], clock: dict[float, float], last: float) -> None:
    """And name both phases, where there are two."""
    fresh = [clock[sample.started_unix_s] / 60 for sample in timed if sample.phase == CONFIRMATION]
    if not fresh:
        return
    begin = min(fresh)
    axes.axvspan(begin, last, color=GRID, alpha=0.45, linewidth=0)
    for at, name in ((begin / 2, "interleaved rounds"), ((begin + last) / 2, "confirmation")):
        axes.text(at, 1.0, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)


def _words(summary: Summary, timed: Sequence[Sample], drawn: int, pauses: int, usual_mhz: float) -> str:
    flagged = sum(bool(flags(sample, usual_mhz)) for sample in timed)
    fresh = sum(sample.phase == CONFIRMATION for sample in timed)
    launches = len({(sample.phase, sample.launch) for sample in timed})
    minutes = (max(s.started_unix_s + s.case_ns / 1e9 for s in timed) - min(s.started_unix_s for s in timed)) / 60
    thinned = f" Of these {drawn:,} are drawn." if drawn < len(timed) else ""
    cut = f" {count(pauses, 'long pause')} without samples (dotted) cut short." if pauses else ""
    again = f", the last {fresh:,} of them the confirmation (shaded)" if fresh else ""
    return (
        f"{len(timed):,} samples over {minutes:.3g} minutes in {count(summary.rounds, 'round')}{again}. A dash is a "
        "sample, as long as it took; above its line it took longer than that case usually does with that variant, "
        f"below it less, at the edges by half. Triangles are the first samples of a launch of the processes "
        f"({launches} in all), crosses samples beside which something interfered ({flagged:,}).{thinned}{cut}"
    )
