"""The history of a project's runs as markdown for people."""

from collections.abc import Iterable

from reports import formatting
from reports.decision.comparability import Difference
from reports.decision.history import FELL, Entry, History, Series, Step, Trend, changed_between
from reports.formatting import count, listed
from reports.render.commonmark import bullets, fold, section, table, text, words
from reports.render.several.wording import change_text, speedup_text
from reports.stats.bootstrap import Interval
from reports.stats.change_points import ALPHA, LEAST, LEAST_PART

NOTE = (
    "*Speedup* is that over the baseline of the same run, by its interleaved samples, with one-sided 95 % bounds by "
    "bootstrap over the cases. Runs are in one series where controlled settings, weights, data, baseline and machine "
    "are the same. The *noise band* is where 95 % of further runs lie if nothing changes. A *change point* is where "
    f"the speedups before and after lie so far apart that at most {100 * ALPHA:g} % of random orders of the same runs "
    f"part as well; it takes {LEAST} runs, {LEAST_PART} of them on either side. Its bounds are Welch's. *Seconds* are "
    "medians of a case; runs are not interleaved, so that they decide nothing."
)


def render(history: History) -> str:
    """The history: the answer, each series, and what was left out."""
    parts = [answer(history)]
    for number, series in enumerate(history.series):
        parts += [series_head(series, number), every_run(series)]
    return "\n\n".join(part for part in [*parts, left_out(history), NOTE] if part) + "\n"


def headline(history: History) -> str:
    """Whether any speedup changed, and which; plain text."""
    steps = list(history.steps)
    over = f"in {count(history.runs, 'run')}"
    if steps:
        said = [f"{trend.name} {step.direction} by {_size(step.ratio)}" for _, trend, step in steps]
        return f"{count(len(steps), 'change')} of a speedup {over}: {listed(said)}"
    if any(not trend.note for series in history.series for trend in series.trends):
        return f"No change of a speedup {over}"
    return f"Too few runs to look for changes: {count(history.runs, 'run')} in {len(history.series)} series"


def answer(history: History) -> str:
    """The headline, and each change with its bounds and what else changed there."""
    lines = [_step_line(series, trend, step) for series, trend, step in history.steps]
    return "\n\n".join(part for part in (f"# {text(headline(history))}", bullets(lines)) if part)


def series_head(series: Series, number: int) -> str:
    """From when to when, over which baseline, how it differs from the first series, and its variants."""
    first, last = (entry.record.created[:10] for entry in (series.entries[0], series.entries[-1]))
    when = first if first == last else f"{first} to {last}"
    lines = [text(f"{when}, over the baseline {series.baseline}.")]
    if series.differences:
        lines.append(f"Not comparable with series 1: {text(_differences_text(series.differences))}.")
    head = ["variant", "runs", "newest speedup", "noise band", "seconds, newest", "change points"]
    return section(
        text(f"Series {number + 1}: {series.machine}: {count(len(series.entries), 'run')}"),
        " ".join(lines),
        table(head, map(_trend_row, series.trends), (0, 5)) if series.trends else "no variant but the baseline",
        bullets(_grouped((trend.note, trend.name) for trend in series.trends if trend.note)),
    )


def changed_section(series: Series) -> str:
    """In which runs something was not as in the run before."""
    pairs = zip(series.entries, series.entries[1:], strict=False)
    changes = [(after, differences) for before, after in pairs if (differences := changed_between(before, after))]
    rows = [[text(e.name), e.record.created[:10], text(_differences_text(own))] for e, own in changes]
    return words(["run", "started", "not as in the run before"], rows) if rows else ""


def every_run(series: Series) -> str:
    """What changed between the runs; folded, each run by each variant."""
    names = [series.baseline, *(trend.name for trend in series.trends)]
    speedups = [
        [text(e.name), e.record.created[:10], *(_speedup_cell(trend, e) for trend in series.trends)]
        for e in series.entries
    ]
    seconds = [
        [text(e.name), e.record.created[:10], *(_seconds_cell(e, name) for name in names)] for e in series.entries
    ]
    heads = ["run", "started"]
    return "\n\n".join(part for part in (
        changed_section(series),
        fold(
            "Every run",
            "Speedups:",
            table([*heads, *(text(trend.name) for trend in series.trends)], speedups, (0, 1)),
            "Seconds a case, which are not interleaved between runs:",
            table([*heads, *map(text, names)], seconds, (0, 1)),
            bullets(text(f"{trend.name}: {trend.made_of}") for trend in series.trends),
            bullets(_grouped((f"in {e.name} {why}", t.name) for t in series.trends for e, why in t.missing)),
        ),
    ) if part)  # fmt: skip


def left_out(history: History) -> str:
    """What could not be read, or was there twice."""
    return section("Left out", bullets(map(text, history.notes)))


def _grouped(said: Iterable[tuple[str, str]]) -> list[str]:
    """``a, b: what is said of both``, from pairs of what is said and a name."""
    names: dict[str, list[str]] = {}
    for what, name in said:
        names.setdefault(what, []).append(name)
    return [text(f"{', '.join(own)}: {what}") for what, own in names.items()]


def _speedup_cell(trend: Trend, entry: Entry) -> str:
    point = next((point for point in trend.points if point.entry is entry), None)
    if point is None:
        return formatting.NOT_MEASURED
    changed = [step.direction for step in trend.steps if step.after is entry]
    return " ".join([*changed, speedup_text(point.measured.speedup)])


def _seconds_cell(entry: Entry, name: str) -> str:
    return formatting.significant(entry.measured[name].seconds if name in entry.measured else None)


def _trend_row(trend: Trend) -> list[str]:
    newest = trend.points[-1].measured if trend.points else None
    steps = [f"{change_text(step.ratio)} in {step.after.name}" for step in trend.steps]
    return [
        text(trend.name),
        str(len(trend.points)),
        speedup_text(newest.speedup) if newest else formatting.NOT_MEASURED,
        _band(trend.levels[-1]) if trend.levels else formatting.NOT_MEASURED,
        formatting.significant(newest.seconds if newest else None),
        text(listed(steps, "; ")) or ("not sought" if trend.note else "none"),
    ]


def _band(level: Interval) -> str:
    return f"{level.low:.2f}x to {level.high:.2f}x"


def _step_line(series: Series, trend: Trend, step: Step) -> str:
    where = f"between {_run_words(step.before)} and {_run_words(step.after)}, on {series.machine}"
    others = _differences_text(step.differences) or "nothing that the runs record"
    return text(f"{trend.name}: the speedup {change_text(step.ratio)} {where}. Between the two also changed: {others}.")


def _run_words(entry: Entry) -> str:
    return f"{entry.name} ({entry.record.created[:10]})"


def _differences_text(differences: tuple[Difference, ...]) -> str:
    return listed([f"{name} from {old} to {new}" for name, old, new in differences], "; ")


def _size(ratio: Interval) -> str:
    return formatting.percent(100 * abs(ratio.estimate - 1))


def fell(history: History) -> bool:
    """Whether a speedup fell for good: the last change of any trend was a fall."""
    return any(trend.steps and trend.steps[-1].direction == FELL for s in history.series for trend in s.trends)
