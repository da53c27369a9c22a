"""Runs against a reference as markdown for people."""

from collections.abc import Sequence
from math import isfinite

from reports import formatting
from reports.decision.accuracy import Metric, MetricKey, metric_keys, own_margin
from reports.decision.regression import NO_REGRESSION, Change, Regression, worst
from reports.decision.verdict import LOST, Claim, nearest_to_loss, severity
from reports.records.record import AGREEMENT
from reports.render.commonmark import bullets, fold, section, table, text, words
from reports.render.sections.accuracy import margins_text
from reports.render.several.wording import change_text, short_names, speedup_text
from reports.stats.bootstrap import Interval

_NOTE = (
    "*Change of the speedup* is the ratio of the speedups over each run's own baseline, this run over the reference: "
    "by case, then the geometric mean over the cases, with one-sided 95 % bounds by bootstrap over the cases; below 0 "
    "% is slower. *Seconds* is the ratio of the median seconds a case; the runs are not interleaved, so it decides "
    "nothing. Scores are paired differences by case, this run minus the reference, [the lower bound]; flips are cases "
    "whose predicted class changed. A baseline has no speedup over itself: its seconds stand alone. The others' "
    "speedup falls also where the baseline became faster and they did not."
)
_OF_AGREEMENT = (
    " Scores are those to the mask of each run's own baseline; *equal classes* is the share of cases with its class. "
    "Whether the baseline's own output changed between the runs they do not say."
)


def render(regressions: Sequence[Regression]) -> str:
    """The comparisons: the answer, then the speedups by run, then each run."""
    parts = [answer(regressions), speedups_section(regressions), *map(run_section, regressions), note(regressions)]
    return "\n\n".join(part for part in parts if part) + "\n"


def answer(regressions: Sequence[Regression]) -> str:
    """Whether anything got worse, what, and by how much at least."""
    state = worst(regression.state for regression in regressions)
    lines = [
        f"{text(change.name)} in {text(regression.run.name)}: {text(_worse(change, regression))}"
        for regression in regressions
        for change in regression.changes
        if change.state == state != NO_REGRESSION
    ]
    return "\n\n".join([f"# {text(headline(regressions))}", bullets(lines or [text(_at_most(regressions))])])


def note(regressions: Sequence[Regression]) -> str:
    """How the figures are made."""
    return _NOTE + (_OF_AGREEMENT if _shown_by(regressions) == AGREEMENT else "")


def speedups_section(regressions: Sequence[Regression]) -> str:
    """Each variant's speedup over the baseline, the reference first, then each run."""
    names = dict.fromkeys(change.name for regression in regressions for change in regression.changes)
    rows = []
    for name in names:
        changes = [next((c for c in each.changes if c.name == name), None) for each in regressions]
        reference = next((c.reference for c in changes if c and isfinite(c.reference.estimate)), Interval())
        if name != regressions[0].reference.record.baseline:
            rows.append(
                [text(name), *(speedup_text(s) for s in (reference, *(c.own if c else Interval() for c in changes)))]
            )
    heads = [
        "speedup over the baseline",
        *map(text, short_names([regressions[0].reference, *(r.run for r in regressions)])),
    ]
    return section("Speedups by run", table(heads, rows)) if rows else ""


def differences_section(regressions: Sequence[Regression]) -> str:
    """What differs between the reference and any of the runs, side by side."""
    by_run = [{name: (old, new) for name, old, new in regression.differences} for regression in regressions]
    names = dict.fromkeys(name for differences in by_run for name in differences)
    rows = []
    for name in names:
        reference = next(differences[name][0] for differences in by_run if name in differences)
        rows.append([name, reference, *(own[name][1] if name in own else "the same" for own in by_run)])
    heads = ["differs", *short_names([regressions[0].reference, *(r.run for r in regressions)])]
    cells = [[text(cell) for cell in row] for row in rows]
    return section("What differs between the runs", words([text(head) for head in heads], cells)) if rows else ""


def _shown_by(regressions: Sequence[Regression]) -> str:
    """What the runs' accuracy is shown by, which is the same in all that are compared."""
    return regressions[0].reference.record.settings.accuracy


def headline(regressions: Sequence[Regression]) -> str:
    """The state of the worst variant, and which are in it; plain text."""
    state = worst(regression.state for regression in regressions)
    names = [
        f"{change.name} in {regression.run.name}"
        for regression in regressions
        for change in regression.changes
        if change.state == state
    ]
    which = f": {', '.join(names)}" if state != NO_REGRESSION and names else ""
    return f"{state.upper()} against {regressions[0].reference.name}{which}"


def _worse(change: Change, regression: Regression) -> str:
    """What got worse and by how much at least; what is not known yet where nothing did for certain."""
    least = 1 - regression.max_slowdown_pct / 100
    slower = [f"the speedup {change_text(change.speedup)}"] if change.speedup.high < least else []
    lost = [
        f"{key.label} {formatting.change(metric.delta.estimate)}"
        + (f" ({formatting.change(metric.delta.high)} at best)" if isfinite(metric.delta.high) else "")
        for key, metric in change.metrics.items()
        if change.states[key] == LOST
    ]
    return "; ".join([*slower, *([formatting.listed(lost)] if lost else [])] or change.reasons)


def _at_most(regressions: Sequence[Regression]) -> str:
    """How large a fall the bounds leave possible where nothing got worse."""
    lows = [
        (change.speedup.low, f"{change.name} in {regression.run.name}")
        for regression in regressions
        for change in regression.changes
        if isfinite(change.speedup.low)
    ]
    if not lows:
        return "no speedup could be compared"
    low, which = min(lows)
    fell = f"fell by at most {formatting.at_most(100 * (1 - low))}" if low < 1 else "fell nowhere"
    return (
        f"no speedup fell by more than is allowed, and no score by more than its margin; the speedup {fell} ({which})"
    )


def run_section(regression: Regression, *, differences: bool = True) -> str:
    """All about one run; with what differs from the reference, or without."""
    claim = Claim.of(regression.reference.record.settings)
    task = regression.reference.record.task
    keys = metric_keys(task, claim.accuracy)
    shown = _shown(regression, keys, claim)
    figures = ("change of the speedup", "seconds (not interleaved)", *(text(key.label) for key in shown))
    head = ["variant", "state", *figures, "class flips"]
    rows = [_change_row(change, shown) for change in regression.changes]
    every = [[text(key.label), *(_metric_cell(c.metrics.get(key)) for c in regression.changes)] for key in keys]
    names = [text(change.name) for change in regression.changes]
    rest = fold(f"All {len(keys)} scores", table(["score", *names], every)) if len(shown) < len(keys) else ""
    reasons = bullets(f"{text(c.name)}: {text(reason)}" for c in regression.changes for reason in c.reasons)
    margins = margins_text({key: claim.margin(key, own_margin(task, key)) for key in keys})
    allowed = (
        f"The baseline of both runs is {text(regression.run.record.baseline)}. A fall of the speedup over it by "
        f"{regression.max_slowdown_pct:g} % is allowed, and of the scores: {margins}."
    )
    cells = [[text(cell) for cell in row] for row in regression.differences]
    differ = words(["differs", "reference", "this run"], cells) if cells and differences else ""
    title = f"{text(regression.run.name)}: {regression.state}"
    return section(title, table(head, rows, (0, 1)), rest, reasons, allowed, differ)


def _shown(regression: Regression, keys: Sequence[MetricKey], claim: Claim) -> tuple[MetricKey, ...]:
    """Of many scores those nearest to a loss."""

    def worst(key: MetricKey) -> tuple[int, float]:
        metrics = [change.metrics[key] for change in regression.changes if key in change.metrics]
        return max((severity(key, own, claim.margin(key, own.own_margin)) for own in metrics), default=(0, 0.0))

    return nearest_to_loss(keys, worst)


def _change_row(change: Change, keys: Sequence[MetricKey]) -> list[str]:
    cells = [_metric_cell(change.metrics.get(key)) for key in keys]
    flips = f"{len(change.flipped)} of {change.compared}" if change.compared else formatting.NOT_MEASURED
    speedup = "reference" if isfinite(change.speedup.estimate) and not change.cases else _ratio_cell(change.speedup)
    seconds = formatting.factor(change.seconds)
    return [text(change.name), change.state or "not compared", speedup, seconds, *cells, flips]


def _ratio_cell(ratio: Interval) -> str:
    return formatting.bounded(*(100 * (value - 1) for value in (ratio.estimate, ratio.low, ratio.high)))


def _metric_cell(metric: Metric | None) -> str:
    if metric is None:
        return formatting.NOT_MEASURED
    if not metric.applicable:
        return formatting.NOT_APPLICABLE
    low = f" [{formatting.least_change(metric.delta.low)}]" if isfinite(metric.delta.low) else ""
    return formatting.change(metric.delta.estimate) + low
