"""What came of comparing runs, as markdown for people and as JSON for programs."""

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

from reports import formatting
from reports.decision.accuracy import METRICS, Metric
from reports.decision.regression import NO_REGRESSION, Change, Regression, worst
from reports.decision.verdict import Claim
from reports.records.record import SCHEMA
from reports.records.store import Run
from reports.render.commonmark import bullets, section, table, text, words
from reports.render.summary_json import finite
from reports.stats.bootstrap import Interval

_NOTE = (
    "*Change of the speedup* is the ratio of the speedups over each run's own baseline, this run over the reference: "
    "by case, then the geometric mean over the cases, with one-sided 95 % bounds by bootstrap over the cases; below 0 "
    "% is slower. *Seconds* is the ratio of the median seconds a case; the runs are not interleaved, so it decides "
    "nothing. Scores are paired differences by case, this run minus the reference, [the lower bound]; flips are cases "
    "whose predicted class changed. A baseline has no speedup over itself: its seconds stand alone. The others' "
    "speedup falls also where the baseline became faster and they did not."
)


def render(found: Sequence[Regression], form: str) -> str:
    """The comparisons as one document in ``markdown`` or ``json``, ending in a newline."""
    if form == "json":
        return json.dumps(finite(regressions_json(found)), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return "\n\n".join([f"# {_headline(found)}", *map(_comparison, found), _NOTE]) + "\n"


def regressions_json(found: Sequence[Regression]) -> dict[str, Any]:
    """The comparisons as dicts, lists and scalars; NaN where nothing was measured. Ratios are this run / reference."""
    return {
        "schema": SCHEMA,
        "state": worst(one.state for one in found),
        "max_slowdown_pct": found[0].max_slowdown_pct,
        "reference": _run(found[0].reference),
        "runs": [_of_run(one) for one in found],
    }


# --- markdown --------------------------------------------------------------------------------------------------------


def _headline(found: Sequence[Regression]) -> str:
    state = worst(one.state for one in found)
    names = [f"{change.name} in {_name(one.run)}" for one in found for change in one.changes if change.state == state]
    which = f": {', '.join(names)}" if state != NO_REGRESSION and names else ""
    return text(f"{state.upper()} against {_name(found[0].reference)}{which}")


def _comparison(found: Regression) -> str:
    claim = Claim.of(found.reference.record.settings)
    head = ["backend", "state", "change of the speedup", "seconds (not interleaved)", *METRICS.values(), "class flips"]
    rows = [_row(change) for change in found.changes]
    reasons = bullets(f"{text(change.name)}: {text(reason)}" for change in found.changes for reason in change.reasons)
    margins = ", ".join(f"{label} {claim.margin(name):g}" for name, label in METRICS.items())
    allowed = f"A fall of the speedup by {found.max_slowdown_pct:g} % is allowed, and of the scores: {margins}."
    differ = words(["differs", "reference", "this run"], [[text(cell) for cell in row] for row in found.differing])
    title = f"{text(_name(found.run))}: {found.state}"
    return section(title, table(head, rows, (0, 1)), reasons, allowed, differ if found.differing else "")


def _row(change: Change) -> list[str]:
    cells = [_metric(change.metrics.get(name)) for name in METRICS]
    flips = f"{len(change.flipped)} of {change.compared}" if change.compared else formatting.NOT_MEASURED
    speedup = "reference" if isfinite(change.speedup.estimate) and not change.cases else _percents(change.speedup)
    seconds = formatting.factor(change.seconds)
    return [text(change.name), change.state or "not compared", speedup, seconds, *cells, flips]


def _percents(ratio: Interval) -> str:
    return formatting.bounded(*(100 * (value - 1) for value in (ratio.estimate, ratio.low, ratio.high)))


def _metric(found: Metric | None) -> str:
    if found is None:
        return formatting.NOT_MEASURED
    if not found.applicable:
        return formatting.NOT_APPLICABLE
    low = f" [{formatting.change(found.delta.low)}]" if isfinite(found.delta.low) else ""
    return formatting.change(found.delta.estimate) + low


def _name(run: Run) -> str:
    return str(run.folder or run.record.id)


# --- JSON ------------------------------------------------------------------------------------------------------------


def _of_run(found: Regression) -> dict[str, Any]:
    return _run(found.run) | {
        "state": found.state,
        "backends": [_backend(change) for change in found.changes],
        "differing": [{"name": name, "reference": old, "run": new} for name, old, new in found.differing],
    }


def _run(run: Run) -> dict[str, Any]:
    record = run.record
    return {"folder": str(run.folder) if run.folder else None, "id": record.id, "created": record.created}


def _backend(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "state": change.state,
        "reasons": change.reasons,
        "cases": change.cases,
        "speedup_ratio": vars(change.speedup),
        "seconds_ratio": change.seconds,
        "interleaved": False,
        "scores": {name: _score(metric, change.states[name]) for name, metric in change.metrics.items()},
        "class_flips": len(change.flipped) if change.compared else None,
        "flipped_cases": change.flipped,
    }


def _score(found: Metric, state: str) -> dict[str, Any]:
    return {
        "run": found.value,
        "reference": found.baseline,
        "delta": found.delta.estimate,
        "low": found.delta.low,
        "high": found.delta.high,
        "cases": found.cases,
        "state": state,
    }
