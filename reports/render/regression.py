"""What came of comparing runs, as markdown for people and as JSON for programs."""

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

from reports import formatting
from reports.decision.accuracy import Metric, MetricKey, metric_keys, own_margin
from reports.decision.regression import NO_REGRESSION, Change, Regression, worst
from reports.decision.verdict import Claim, severity
from reports.formatting import SHOWN
from reports.records.record import AGREEMENT, SCHEMA
from reports.records.store import Run
from reports.render.commonmark import bullets, fold, section, table, text, words
from reports.render.sections.accuracy import margins_text
from reports.render.summary_json import by_structure, finite
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


def render(regressions: Sequence[Regression], form: str) -> str:
    """The comparisons as one document in ``markdown`` or ``json``, ending in a newline."""
    if form == "json":
        return json.dumps(finite(regressions_json(regressions)), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    note = _NOTE + (_OF_AGREEMENT if _shown_by(regressions) == AGREEMENT else "")
    return "\n\n".join([f"# {_headline(regressions)}", *map(_regression_section, regressions), note]) + "\n"


def regressions_json(regressions: Sequence[Regression]) -> dict[str, Any]:
    """The comparisons as dicts, lists and scalars; NaN where nothing was measured. Ratios are this run / reference."""
    return {
        "schema": SCHEMA,
        "state": worst(regression.state for regression in regressions),
        "shown_by": _shown_by(regressions),
        "max_slowdown_pct": regressions[0].max_slowdown_pct,
        "reference": _run_json(regressions[0].reference),
        "runs": [_regression_json(regression) for regression in regressions],
    }


# --- markdown --------------------------------------------------------------------------------------------------------


def _shown_by(regressions: Sequence[Regression]) -> str:
    """What the runs' accuracy is shown by, which is the same in all that are compared."""
    return regressions[0].reference.record.settings.accuracy


def _headline(regressions: Sequence[Regression]) -> str:
    state = worst(regression.state for regression in regressions)
    names = [
        f"{change.name} in {_run_name(regression.run)}"
        for regression in regressions
        for change in regression.changes
        if change.state == state
    ]
    which = f": {', '.join(names)}" if state != NO_REGRESSION and names else ""
    return text(f"{state.upper()} against {_run_name(regressions[0].reference)}{which}")


def _regression_section(regression: Regression) -> str:
    claim = Claim.of(regression.reference.record.settings)
    task = regression.reference.record.task
    keys = metric_keys(task, claim.accuracy)
    shown = _shown(regression, keys, claim)
    head = [
        "variant",
        "state",
        "change of the speedup",
        "seconds (not interleaved)",
        *(text(key.label) for key in shown),
        "class flips",
    ]
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
    differences = [[text(cell) for cell in row] for row in regression.differences]
    differ = words(["differs", "reference", "this run"], differences) if differences else ""
    title = f"{text(_run_name(regression.run))}: {regression.state}"
    return section(title, table(head, rows, (0, 1)), rest, reasons, allowed, differ)


def _shown(regression: Regression, keys: Sequence[MetricKey], claim: Claim) -> list[MetricKey]:
    """Of many scores those nearest to a loss."""

    def worst(key: MetricKey) -> tuple[int, float]:
        metrics = [change.metrics[key] for change in regression.changes if key in change.metrics]
        return max((severity(key, own, claim.margin(key, own.own_margin)) for own in metrics), default=(0, 0.0))

    of_structures = [key for key in keys if key.structure is not None]
    nearest = sorted(of_structures, key=worst, reverse=True)[:SHOWN]
    return [key for key in keys if key.structure is None or key in nearest]


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
    low = f" [{formatting.change(metric.delta.low)}]" if isfinite(metric.delta.low) else ""
    return formatting.change(metric.delta.estimate) + low


def _run_name(run: Run) -> str:
    return str(run.folder or run.record.id)


# --- JSON ------------------------------------------------------------------------------------------------------------


def _regression_json(regression: Regression) -> dict[str, Any]:
    return _run_json(regression.run) | {
        "state": regression.state,
        "variants": [_change_json(change) for change in regression.changes],
        "differing": [{"name": name, "reference": old, "run": new} for name, old, new in regression.differences],
    }


def _run_json(run: Run) -> dict[str, Any]:
    record = run.record
    folder = str(run.folder) if run.folder else None
    return {"folder": folder, "id": record.id, "created": record.created, "baseline": record.baseline}


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "state": change.state,
        "reasons": change.reasons,
        "cases": change.cases,
        "speedup_ratio": vars(change.speedup),
        "seconds_ratio": change.seconds,
        "interleaved": False,
        "accuracy": by_structure({key: _metric_json(m, change.states[key]) for key, m in change.metrics.items()}),
        "class_flips": len(change.flipped) if change.compared else None,
        "flipped_cases": change.flipped,
    }


def _metric_json(metric: Metric, state: str) -> dict[str, Any]:
    return {
        "run": metric.value,
        "reference": metric.baseline,
        "delta": metric.delta.estimate,
        "low": metric.delta.low,
        "high": metric.delta.high,
        "cases": metric.cases,
        "state": state,
    }
