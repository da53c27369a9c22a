"""Tables for other programs: a row for each variant, and a row for each timed case."""

import csv
import io
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from reports.decision.accuracy import (
    WORST_DSC,
    MetricKey,
    ScorePair,
    columns,
    is_applicable,
    is_left_out,
    score_of,
)
from reports.formatting import NOT_APPLICABLE
from reports.records.record import STAGES, RunRecord, Sample, SystemLoad, Usage
from reports.records.store import Run
from reports.stats.bootstrap import Interval
from reports.summary.summary import Row, Summary

_CASE_COLUMNS = (
    "variant", "phase", "case", "round", "launch", "case_s", *(f"{stage}_s" for stage in STAGES), "device_s", "cpu_s",
    "tiles", "started_unix_s", "true_subtype", "subtype", "voxels", "differing_voxels", "others_cores", "stolen_cores",
    "mhz", "memory_byte_s", "cpu_energy_j",
)  # fmt: skip


def render(summary: Summary) -> str:
    """A row for each variant; empty where nothing was measured, and "not applicable" where the network gives no such
    score. Times in seconds, memory in bytes.
    """
    classes = sorted({name for row in summary.rows for name in row.accuracy.f1})
    names = columns(summary.record.task, summary.record.settings.accuracy)
    return _csv_text([_variant_cells(row, classes, names) for row in summary.rows])


def cases_csv(run: Run) -> str:
    """The tidy table of raw values: a row for each variant, phase, case and round, in the order they were measured.

    Times are in seconds. ``subtype`` is that sample's prediction; the scores are those of the variant's kept
    prediction of the case, and so repeat over its rounds. What the network does not give is "not applicable", and what
    counts nothing in a case, as neither the truth nor both predictions hold it, is empty.
    """
    task = run.record.task
    every = columns(task, run.record.settings.accuracy)
    names = {key: name for key, name in every.items() if key.structure is not None and key.kind != WORST_DSC}
    missing = {name: NOT_APPLICABLE for key, name in names.items() if not is_applicable(task, key)}
    missing |= {} if run.record.classifies else {"subtype": NOT_APPLICABLE}
    baseline = {score.case: score for score in run.variant(run.record.baseline).scores}
    truth = {case.name: case.subtype for case in run.record.cases}
    rows = []
    for variant in run.variants:
        scores = {score.case: score for score in variant.scores}
        for sample in variant.samples:
            cells = _sample_cells(variant.name, sample, truth.get(sample.case))
            if sample.case in scores:
                pair = scores[sample.case], baseline.get(sample.case, scores[sample.case])
                cells |= _score_cells(run.record, pair, names)
            rows.append(cells | missing)
    return _csv_text(rows, (*_CASE_COLUMNS, *names.values()))


def _csv_text(rows: list[dict[str, Any]], columns: Iterable[str] | None = None) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns or rows[0]) if columns or rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _blank_if_missing(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _blank_if_missing(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not isfinite(value)) else value


def _variant_cells(row: Row, classes: list[int], names: Mapping[MetricKey, str]) -> dict[str, Any]:
    cells: dict[str, Any] = {"name": row.name, "status": row.status, "verdict": row.verdict}
    cells |= {"shown_by": row.accuracy.shown_by}
    for scope, speed in (("case", row.case), ("forward", row.forward)):
        cells |= _interval_cells(f"{scope}_time_reduction_pct", speed.reduction) | _interval_cells(
            f"{scope}_speedup", speed.speedup
        )
    cells |= {"case_median_s": row.latency.median, "case_p95_s": row.latency.p95}
    cells |= {"forward_median_s": row.forward_latency.median, "forward_p95_s": row.forward_latency.p95}
    cells |= {f"{stage}_median_s": row.stages_s[stage] for stage in STAGES}
    cells |= {"cases": row.case.cases, "samples": row.case.pairs, "build_s": row.build_s}
    cells |= {"build_cached": row.build_cached, "peak_memory_bytes": row.peak_memory_bytes}
    cells |= vars(row.resources)
    for key, metric in row.accuracy.metrics.items():
        name = names[key]
        scores: dict[str, Any] = {name: metric.value} | _interval_cells(f"{name}_delta", metric.delta)
        scores |= {f"{name}_detectable": metric.detectable}
        cells |= scores if metric.applicable else dict.fromkeys(scores, NOT_APPLICABLE)
    flips = len(row.accuracy.flipped) if row.accuracy.cases else None
    cells |= {"class_flips": flips if row.accuracy.metric(row.accuracy.class_key).applicable else NOT_APPLICABLE}
    cells |= {"voxel_disagreement": row.accuracy.voxel_disagreement, "provider": row.evidence and row.evidence.provider}
    cells |= {
        f"{scope}_{name}_s": getattr(speed, name)
        for scope, speed in (("case", row.latency), ("forward", row.forward_latency))
        for name in ("p90", "p99")
    }
    cells |= {f"f1_{name}": row.accuracy.f1.get(name, (None,))[0] for name in classes}
    cells |= {"mcnemar_p": row.accuracy.mcnemar.p}
    return cells | {"reason": row.reason, "fix": row.fix, "log": row.log}


def _interval_cells(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _sample_cells(variant: str, sample: Sample, true_subtype: int | None) -> dict[str, Any]:
    cells: dict[str, Any] = {"variant": variant, "phase": sample.phase, "case": sample.case, "round": sample.round}
    cells |= {
        "case_s": _seconds(sample.case_ns),
        "device_s": _seconds(sample.device_ns),
        "cpu_s": _seconds(sample.cpu_ns),
    }
    cells |= {f"{stage}_s": _seconds(sample.stages_ns.get(stage)) for stage in STAGES}
    cells |= {"launch": sample.launch, "tiles": sample.tiles, "started_unix_s": sample.started_unix_s}
    cells |= {"true_subtype": true_subtype, "subtype": sample.subtype}
    load, usage = sample.system_load or SystemLoad(), sample.usage or Usage()
    cells |= {"others_cores": load.others, "stolen_cores": load.stolen, "mhz": load.mhz}
    cells |= {"memory_byte_s": usage.memory_byte_s, "cpu_energy_j": usage.cpu_energy_j}
    return cells


def _score_cells(record: RunRecord, pair: ScorePair, names: Mapping[MetricKey, str]) -> dict[str, Any]:
    score, _ = pair
    cells: dict[str, Any] = {"voxels": score.voxels, "differing_voxels": score.differing_voxels}
    return cells | {
        name: None if is_left_out(record, pair, key.structure or "") else score_of(score, key)
        for key, name in names.items()
    }


def _seconds(nanoseconds: int | None) -> str | None:
    """Exact: nine decimals hold every nanosecond."""
    return None if nanoseconds is None else f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
