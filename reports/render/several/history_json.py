"""The history of a project's runs as JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any

from reports.decision.comparability import Difference
from reports.decision.history import Entry, History, Series, Step, Trend
from reports.records.record import SCHEMA
from reports.records.store import json_values
from reports.stats.change_points import ALPHA, COVERAGE


def render(history: History) -> str:
    """The history; null where nothing was measured."""
    return json.dumps(json_values(history_json(history)), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def history_json(history: History) -> dict[str, Any]:
    """The history as `json_values` takes it; NaN where nothing was measured. Runs are numbers in their series."""
    return {
        "schema": SCHEMA,
        "runs": history.runs,
        "change_points": len(list(history.steps)),
        "alpha": ALPHA,
        "band_coverage": COVERAGE,
        "series": list(map(_series_json, history.series)),
        "notes": history.notes,
    }


def _series_json(series: Series) -> dict[str, Any]:
    return {
        "machine": series.machine,
        "baseline": series.baseline,
        "device": series.entries[0].record.settings.device,
        "differing": _differing(series.differences),
        "runs": [_entry_json(entry, series.baseline) for entry in series.entries],
        "variants": [_trend_json(trend, series.entries) for trend in series.trends],
    }


def _entry_json(entry: Entry, baseline: str) -> dict[str, Any]:
    record = entry.record
    return {
        "folder": str(entry.run.folder) if entry.run.folder else None,
        "id": record.id,
        "created": record.created,
        "status": record.status,
        "command": record.command,
        "versions": record.versions,
        "weights_sha256": record.checkpoint.weights_sha256,
        "data_sha256": record.data.sha256,
        "baseline_seconds": entry.measured[baseline].seconds if baseline in entry.measured else None,
    }


def _trend_json(trend: Trend, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        "name": trend.name,
        "made_of": trend.made_of,
        "note": trend.note or None,
        "points": [
            {
                "run": entries.index(point.entry),
                "speedup": point.measured.speedup,
                "seconds": point.measured.seconds,
                "interleaved": False,
                "cases": point.measured.cases,
                "level": point.level,
            }
            for point in trend.points
        ],
        "levels": [{"speedup": own.estimate, "band": [own.low, own.high]} for own in trend.levels],
        "change_points": [_step_json(step, entries) for step in trend.steps],
        "missing": [{"run": entries.index(entry), "reason": reason} for entry, reason in trend.missing],
    }


def _step_json(step: Step, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        "before": entries.index(step.before),
        "after": entries.index(step.after),
        "direction": step.direction,
        "speedup_ratio": step.ratio,
        "p": step.p,
        "differing": _differing(step.differences),
    }


def _differing(differences: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"name": name, "before": old, "after": new} for name, old, new in differences]
