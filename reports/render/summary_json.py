"""The summary as JSON: the contract that checks and other programs read."""

import json
from collections.abc import Mapping
from typing import Any

from reports.analysis.cases import CaseChange
from reports.analysis.latency import Latency
from reports.analysis.peers import PeerTime
from reports.analysis.shards import ShardTimes
from reports.decision.accuracy import CLASS_AGREEMENT, MACRO_F1, Accuracy, Metric, MetricKey, columns
from reports.decision.speed import Speed
from reports.decision.verdict import MARGINS, Claim, SpeedVerdict, metric_state
from reports.records.record import FAILED, SCHEMA, TRUTH, TaskRecord
from reports.records.store import json_values
from reports.summary.summary import Requirement, Row, Summary


def render(summary: Summary) -> str:
    """The summary as an indented JSON document."""
    return json.dumps(summary_json(summary), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def summary_json(summary: Summary) -> dict[str, Any]:
    """The summary as dicts, lists and scalars; null where nothing was measured or nothing applies, never NaN.

    Every variant has every key, so that a reader can index without asking. A score that does not apply to the network
    has the ``state`` "not applicable" under ``accuracy``, and ``applicable`` false among the ``requirements``. Times
    are in seconds, memory in bytes. ``detectable`` is the smallest loss that so many cases would have shown with a
    power of 80 %: of a mean score in its unit, of ``macro_f1`` as the share of cases whose class is lost.
    """
    record, claim = summary.record, summary.claim
    document = {
        "schema": SCHEMA,
        "verdict": summary.verdict,
        "shown_by": claim.accuracy,
        "headline": summary.headline,
        "reasons": summary.reasons,
        "baseline": record.baseline,
        "best": summary.best,
        "subject": summary.subject,
        "device": record.settings.device,
        "task": _task_json(record.task),
        "cases": summary.cases,
        "rounds": summary.rounds,
        "variants": [_variant_json(row) for row in summary.rows],
        "pareto_front": summary.pareto_front,
        "shards": [_shard_json(own) for own in summary.shards] or None,
        "claim": _claim_json(claim),
        "plan": _plan_json(summary) if record.settings.plan_sha256 else None,
        "confirmation": _speed_json(summary.confirmation) if summary.confirmation else None,
        "noise_floor": _noise_floor_json(summary) if summary.noise else None,
        "peers": {"of": summary.subject, "times": [_peer_json(peer) for peer in summary.peers]},
        "worst_cases": {"of": summary.cases_of, "cases": [_case_json(change) for change in summary.worst_cases]},
        "requirements": [_requirement_json(requirement, record.task) for requirement in summary.requirements],
        "missing_required": summary.missing_required,
        "warnings": summary.warnings,
        "interference": vars(summary.interference) | {"share": summary.interference.share},
        "diagnostics": summary.diagnostics,
        "failures": [
            {"name": row.name, "reason": row.reason, "log": row.log} for row in summary.rows if row.status == FAILED
        ],
        "run": {"id": record.id, "created": record.created, "status": record.status, "command": record.command},
        "settings": vars(record.settings)
        | {"variants": list(record.settings.variants), "threads": record.settings.threads or None},
        "checkpoint": record.checkpoint,
        "data": record.data,
        "host": record.host.known(),
        "versions": record.versions,
        "controlled_settings": record.controlled_settings,
        "peak_flops": record.peak_flops,
        "peak_libraries": record.peak_libraries,
        "peak_bytes_per_s": record.peak_bytes_per_s,
    }
    clean: dict[str, Any] = json_values(document)
    return clean


def _shard_json(own: ShardTimes) -> dict[str, Any]:
    """The figures are of the variant of ``worst_cases``, as those of the whole confirmation or rounds."""
    shard = own.shard
    return {
        "number": shard.number, "run": shard.id, "created": shard.created, "command": shard.command,
        "host": shard.host.known(), "device": shard.device, "threads": shard.threads, "cases": list(shard.cases),
        "confirmed": shard.confirmed, "baseline_median_s": own.baseline_s, **_speed_json(own.case),
    }  # fmt: skip


def _plan_json(summary: Summary) -> dict[str, Any]:
    """``is_claim``: whether the claim is the one that it declares."""
    record = summary.record
    return {
        "sha256": record.settings.plan_sha256, "declared": record.declared, "is_claim": summary.has_declared_claim
    }  # fmt: skip


def _claim_json(claim: Claim) -> dict[str, Any]:
    """With the margins of what it is shown by alone."""
    return {name: getattr(claim, name) for name in ("min_reduction_pct", *MARGINS[claim.accuracy], "variant")}


def _task_json(task: TaskRecord) -> dict[str, Any]:
    """``structures``: their names; ``definitions``: what each is."""
    return vars(task) | {"structures": list(task.structures), "definitions": task.structures}


def _variant_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        **vars(row.settings),
        "status": row.status,
        "reason": row.reason,
        "fix": row.fix,
        "log": row.log,
        "partial": row.partial,
        "left": row.left or None,
        "is_peer": row.is_peer,
        "verdict": row.verdict,
        "reasons": row.reasons,
        "cases": row.case.cases,
        "unit": row.case.unit,
        "samples": row.case.pairs,
        "launches": row.case.launches,
        "speed_claim": _speed_claim_json(row.test) if row.test else None,
        "latency_s": _latency_json(row.latency),
        "between_cases": row.spread,
        "tile_fit": row.tile_fit,
        "time_reduction_pct": row.case.reduction,
        "speedup": row.case.speedup,
        "forward": {
            "latency_s": _latency_json(row.forward_latency),
            "time_reduction_pct": row.forward.reduction,
            "speedup": row.forward.speedup,
        },
        "build_s": row.build_s,
        "build_cached": row.build_cached,
        "peak_memory_bytes": row.peak_memory_bytes,
        "stages_s": row.stages_s,
        "stages_share": row.stages_share,
        "accuracy": _accuracy_json(row),
        "evidence": row.evidence,
        "roofline": row.roofline,
        "device_share": row.device_share,
        "gpu": row.gpu,
        "resources": row.resources,
        "roi_use": row.roi,
        "few_cases": row.few_cases,
        "checked_classes": row.checked_classes,
    }


def _speed_claim_json(test: SpeedVerdict) -> dict[str, Any]:
    """`interim_analysis` is null where the number of rounds was fixed; `p_holm` is held against `level`."""
    return {
        "verdict": test.verdict, "p": test.p, "p_holm": test.p_holm, "level": test.analysis.alpha,
        "interim_analysis": test.analysis.number, "claims": test.analysis.claims,
    }  # fmt: skip


def _latency_json(latency: Latency) -> dict[str, Any]:
    return vars(latency) | {"p50": latency.median}


def _accuracy_json(row: Row) -> dict[str, Any]:
    accuracy: Accuracy = row.accuracy
    metrics = {key: _metric_json(row, key) for key in row.margins}
    by_class = {str(name): {"value": own, "baseline": reference} for name, (own, reference) in accuracy.f1.items()}
    for key in (MACRO_F1, CLASS_AGREEMENT):  # of which a run has one
        metrics.setdefault(key, _metric_json(row, key))
    metrics[MACRO_F1]["per_class"] = by_class or None
    classified = bool(accuracy.cases) and accuracy.metric(accuracy.class_key).applicable
    by_truth = classified and accuracy.shown_by == TRUTH
    return by_structure(metrics) | {
        "class_flips": len(accuracy.flips) if classified else None,
        "flipped_cases": accuracy.flipped,
        "flips": accuracy.flips,
        "mcnemar": accuracy.mcnemar if by_truth else None,
        "voxel_disagreement": accuracy.voxel_disagreement,
        "cases": accuracy.cases,
    }


def by_structure(metrics: Mapping[MetricKey, dict[str, Any]]) -> dict[str, Any]:
    """``structures``: name to ``dsc`` and ``nsd``; the scores of cases' classes beside them."""
    structures: dict[str, dict[str, Any]] = {}
    for key, metric in metrics.items():
        if key.structure is not None:
            structures.setdefault(key.structure, {})[key.kind] = metric
    return {"structures": structures} | {key.kind: m for key, m in metrics.items() if key.structure is None}


def _metric_json(row: Row, key: MetricKey) -> dict[str, Any]:
    metric, margin = row.accuracy.metrics.get(key, Metric(applicable=False)), row.margins.get(key)
    return {
        "value": metric.value,
        "baseline": metric.baseline,
        "delta": metric.delta.estimate,
        "low": metric.delta.low,
        "high": metric.delta.high,
        "margin": margin and round(margin, 12),  # 1 - 0.995 is 0.0050000000000000044
        "state": metric_state(key, metric, margin or 0.0),
        "cases": metric.cases,
        "detectable": metric.detectable,
        "absent": metric.absent,
        "worst_case": metric.worst_case or None,
    }


def _requirement_json(requirement: Requirement, task: TaskRecord) -> dict[str, Any]:
    key = requirement.key
    figures = {name: value for name, value in vars(requirement).items() if name != "key"}
    return {"name": columns(task)[key] if key else "time_reduction_pct"} | figures


def _speed_json(speed: Speed) -> dict[str, Any]:
    return {
        "cases": speed.cases, "samples": speed.pairs, "launches": speed.launches,
        "time_reduction_pct": speed.reduction, "speedup": speed.speedup,
    }  # fmt: skip


def _peer_json(peer: PeerTime) -> dict[str, Any]:
    """`ratio`: the peer's case time over that of the variant the list is about."""
    return {
        "name": peer.name,
        "median_s": peer.median_s,
        "ratio": peer.time.speedup,
        "cases": peer.time.cases,
        "samples": peer.time.pairs,
        "voxel_disagreement": peer.voxel_disagreement,
        "class_flips": peer.class_flips,
    }


def _case_json(change: CaseChange) -> dict[str, Any]:
    """`structure`: whose DSC falls most; null where the case has none."""
    return {
        "name": change.case,
        "flipped": change.flipped,
        "truth": change.truth,
        "baseline_class": change.baseline_class,
        "variant_class": change.variant_class,
        "structure": change.structure or None,
        "dsc": change.variant_dsc,
        "baseline_dsc": change.baseline_dsc,
        "delta": change.dsc_change,
        "differing_voxels": change.differing_voxels,
        "voxel_disagreement": change.changed,
    }


def _noise_floor_json(summary: Summary) -> dict[str, Any]:
    voxels = summary.noise.get("voxels", 0)
    return dict(summary.noise) | {
        "class_flips": summary.noise.get("class_flips"),
        "voxel_disagreement": summary.noise.get("differing_voxels", 0) / voxels if voxels else None,
    }
