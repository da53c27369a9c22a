"""The summary as JSON: the contract that checks and other programs read."""

import json
from math import isfinite
from typing import Any

from reports.bootstrap import Interval
from reports.comparison import Metric, Parity, Speed
from reports.record import FAILED, SCHEMA
from reports.summary import Row, Summary, Target
from reports.verdict import METRICS, metric_state


def render(summary: Summary) -> str:
    """The summary as an indented JSON document."""
    return json.dumps(summary_json(summary), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def summary_json(summary: Summary) -> dict[str, Any]:
    """The summary as dicts, lists and scalars; null where nothing was measured or nothing applies, never NaN.

    Every backend has every key, so that a reader can index without asking. A score that does not apply to the network
    has the ``state`` "not applicable" under ``parity``, and ``applicable`` false among the ``targets``. Times are in
    seconds, memory in bytes.
    """
    record, claim = summary.record, summary.claim
    document = {
        "schema": SCHEMA,
        "verdict": summary.verdict,
        "headline": summary.headline,
        "reasons": list(summary.reasons),
        "baseline": record.baseline,
        "best": summary.best,
        "subject": summary.subject,
        "device": record.settings.device,
        "cases": summary.cases,
        "rounds": summary.rounds,
        "backends": [_backend(row) for row in summary.rows],
        "claim": vars(claim),
        "confirmation": _speed(summary.confirmation) if summary.confirmation else None,
        "noise_floor": _noise(summary) if summary.noise else None,
        "targets": [_target(target) for target in summary.targets],
        "missing_required": list(summary.missing_required),
        "doubts": list(summary.doubts),
        "failures": [
            {"name": row.name, "reason": row.reason, "log": row.log} for row in summary.rows if row.status == FAILED
        ],
        "run": {"id": record.id, "created": record.created, "status": record.status, "command": record.command},
        "settings": vars(record.settings),
        "checkpoint": record.checkpoint,
        "data": record.data,
        "host": record.host,
        "versions": record.versions,
        "declaration": record.declaration,
        "peak_flops": record.peak_flops,
    }
    finite: dict[str, Any] = _finite(document)
    return finite


def _backend(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "status": row.status,
        "reason": row.reason,
        "fix": row.fix,
        "log": row.log,
        "partial": row.partial,
        "verdict": row.verdict,
        "reasons": list(row.reasons),
        "cases": row.case.cases,
        "samples": row.case.pairs,
        "latency_s": vars(row.latency),
        "time_reduction_pct": vars(row.case.reduction),
        "speedup": vars(row.case.speedup),
        "forward": {
            "latency_s": vars(row.forward_latency),
            "time_reduction_pct": vars(row.forward.reduction),
            "speedup": vars(row.forward.speedup),
        },
        "build_s": row.build_s,
        "build_cached": row.build_cached,
        "peak_memory_bytes": row.peak_memory_bytes,
        "stages_s": row.stages_s,
        "stages_share": row.stages_share,
        "parity": _parity(row),
        "evidence": row.evidence,
        "limit": vars(row.limit),
        "device_share": row.device_share,
        "gpu": vars(row.gpu) if row.gpu else None,
    }


def _parity(row: Row) -> dict[str, Any]:
    found: Parity = row.parity
    metrics: dict[str, Any] = {name: _metric(getattr(found, name), row.margins[name]) for name in METRICS}
    return metrics | {
        "class_flips": len(found.flipped) if found.cases and found.macro_f1.applicable else None,
        "flipped_cases": found.flipped,
        "voxel_disagreement": found.voxel_disagreement,
        "cases": found.cases,
    }


def _metric(found: Metric, margin: float) -> dict[str, Any]:
    return {
        "value": found.value,
        "baseline": found.baseline,
        "delta": found.delta.estimate,
        "low": found.delta.low,
        "high": found.delta.high,
        "margin": margin,
        "state": metric_state(found, margin),
        "cases": found.cases,
    }


def _speed(found: Speed) -> dict[str, Any]:
    intervals: dict[str, Interval] = {"time_reduction_pct": found.reduction, "speedup": found.speedup}
    return {"cases": found.cases, "samples": found.pairs} | {name: vars(i) for name, i in intervals.items()}


def _noise(summary: Summary) -> dict[str, Any]:
    voxels = summary.noise.get("voxels", 0)
    return dict(summary.noise) | {
        "class_flips": summary.noise.get("class_flips"),
        "voxel_disagreement": summary.noise.get("differing_voxels", 0) / voxels if voxels else None,
    }


def _target(target: Target) -> dict[str, Any]:
    return vars(target)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if hasattr(value, "items"):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (tuple, list)) else value
