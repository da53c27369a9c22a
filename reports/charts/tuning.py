"""The trials of a search by time and accuracy, and what none of them beats in both."""

from collections.abc import Collection, Sequence

from matplotlib.ticker import FuncFormatter

from reports.charts.figure import GRID, INK, KEPT, LOST, MUTED, UNDECIDED, WINNER, Chart, canvas, chart
from reports.charts.marks import Mark, label_points, plain
from reports.decision import verdict
from reports.decision.tuning import MEASURED, Trial
from reports.formatting import count, factor, listed

NAME = "tuning"
_MOST = 100.0  # margins, beyond which a loss is no nearer to any
_Point = tuple[Trial, float, float]  # with its speedup and its place in margins
_COLOURS = {verdict.KEPT: KEPT, verdict.UNDECIDED: UNDECIDED, verdict.LOST: LOST}


def tuning_chart(trials: Sequence[Trial], front: Collection[Trial], best: Trial, reference: str) -> Chart | None:
    """A scatter of the trials that were measured to the end, the front and the best by number; None below two."""
    measured = [trial for trial in trials if trial.state == MEASURED and trial.margin_used is not None]
    points = [(trial, trial.speedup, _place(trial)) for trial in measured if trial.speedup]
    if len(points) < 2:
        return None
    chosen = {trial.number for trial in front}
    with canvas(3.6) as (figure, axes):
        axes.set_yscale("symlog", linthresh=1.0)
        axes.axhline(-1, color=LOST, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.axhline(0, color=MUTED, linewidth=0.9)
        line = sorted((speedup, at) for trial, speedup, at in points if trial.number in chosen)
        axes.plot(*zip(*line, strict=True), color=WINNER, linewidth=1.0, zorder=2)
        for trial, speedup, at in points:
            mark = Mark("o", _COLOURS.get(trial.accuracy, MUTED), filled=trial.number in chosen)
            axes.plot([speedup], [at], **mark.style, zorder=3)
        speeds = [speedup for _, speedup, _ in points]
        axes.set_xlim(min(speeds) / 1.08, max(speeds) * 1.08)
        axes.set_ylim(1.6 * min(-1.3, *(at for _, _, at in points)), max(1.3, *(1.5 * at for _, _, at in points)))
        named = [point for point in points if point[0].number in {*chosen, best.number}]
        label_points(
            axes,
            [(speedup, at) for _, speedup, at in named],
            [str(trial.number) for trial, _, _ in named],
            [(speedup, at) for trial, speedup, at in points if trial.number not in {*chosen, best.number}],
        )
        axes.text(0.01, -1, "margin", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8, color=INK)
        axes.set_xlabel(f"times as fast as {plain(reference, 40)}, tuning cases")
        axes.set_ylabel("worst score's change, in its margins,\nlogarithmic beyond one")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        return chart(figure, NAME, "Trials by time and accuracy", _words(points, named, best, reference))


def _place(trial: Trial) -> float:
    return max(-_MOST, -(trial.margin_used or 0.0))


def _words(points: Sequence[_Point], named: Sequence[_Point], best: Trial, reference: str) -> str:
    cut = f" Losses of more than {_MOST:g} margins stand there." if any(at <= -_MOST for *_, at in points) else ""
    each = [f"{trial.number} {factor(speedup)}, {at:+.2g} margins" for trial, speedup, at in named]
    return (
        f"{count(len(points), 'trial')} on the tuning cases: how many times as fast as {plain(reference, 40)} each is, "
        "and the score that fell most, in its margins. At the dashed line the whole margin is used up; the upright "
        f"axis is logarithmic beyond one margin.{cut} Green: accuracy kept; brown: undecided; orange: lost. Filled is "
        f"what no other one beats in both; {best.number} is the recipe that was chosen. {listed(each, '; ')}."
    )
