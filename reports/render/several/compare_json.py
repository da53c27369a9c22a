"""Runs against a reference as JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any

from reports.decision.accuracy import Metric
from reports.decision.regression import Change, Regression, worst
from reports.records.record import SCHEMA
from reports.records.store import Run, json_values
from reports.render.summary_json import by_structure


def render(regressions: Sequence[Regression]) -> str:
    """The comparisons; null where nothing was measured."""
    return json.dumps(json_values(regressions_json(regressions)), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def regressions_json(regressions: Sequence[Regression]) -> dict[str, Any]:
    """The comparisons as `json_values` takes them; NaN where nothing was measured. Ratios are this run / reference."""
    return {
        "schema": SCHEMA,
        "state": worst(regression.state for regression in regressions),
        "shown_by": regressions[0].reference.record.settings.accuracy,
        "max_slowdown_pct": regressions[0].max_slowdown_pct,
        "reference": _run_json(regressions[0].reference),
        "runs": [_regression_json(regression) for regression in regressions],
    }


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
        "speedup": {"run": change.own, "reference": change.reference},
        "speedup_ratio": change.speedup,
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
