"""A run as tidy tables: rows of plain values, the unit in the column's name, which CSV and Parquet then write.

A value that was not measured is None or NaN. Seconds that were measured as nanoseconds are exact decimals.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

from reports.decision.accuracy import WORST_DSC, MetricKey, columns, is_applicable, is_left_out, score_of
from reports.formatting import NOT_APPLICABLE
from reports.records.record import STAGES, GpuState, RunRecord, Sample, SystemLoad, Usage
from reports.records.store import Run
from reports.stats.bootstrap import Interval
from reports.summary.summary import Row, Summary

Cells = dict[str, Any]

_UNITS = {
    "_s": "s", "_pct": "%", "_bytes": "byte", "_byte_s": "byte s", "_mb_s": "2^20 byte s", "_pct_s": "% s", "_j": "J",
    "_w": "W", "_mhz": "MHz", "_c": "degree Celsius", "_cores": "cores", "_speedup": "1", "mhz": "MHz",
    "_unix_s": "s since 1970-01-01 UTC",
}  # fmt: skip
_BOUNDS = ("_low", "_high")


def unit(column: str) -> str:
    """Of the values in a column, from the end of its name; empty where it has none."""
    name = column
    for bound in _BOUNDS:
        name = name.removesuffix(bound)
    ends = (end for end in sorted(_UNITS, key=len, reverse=True) if name.endswith(end))
    return _UNITS.get(next(ends, ""), "")


def score_columns(record: RunRecord) -> dict[MetricKey, str]:
    """The scores that a single case has, with the names of their columns."""
    every = columns(record.task, record.settings.accuracy)
    return {key: name for key, name in every.items() if key.structure is not None and key.kind != WORST_DSC}


def sample_rows(run: Run) -> list[Cells]:
    """A row for each timed case, in the order they were measured; ``subtype`` is that sample's prediction."""
    truth = {case.name: case.subtype for case in run.record.cases}
    return [
        _sample_cells(variant.name, sample, truth.get(sample.case))
        for variant in run.variants
        for sample in variant.samples
    ]


def score_rows(run: Run) -> list[Cells]:
    """A row for each variant, case and score of a structure, beside the baseline's of the same case.

    The scores are those of the variant's kept prediction. ``counts`` is False where a score counts nothing, as neither
    the truth nor both predictions hold the structure; what the network does not give has no row.
    """
    record = run.record
    keys = {key: name for key, name in score_columns(record).items() if is_applicable(record.task, key)}
    baseline = {score.case: score for score in run.variant(record.baseline).scores}
    pairs = ((variant.name, (s, baseline.get(s.case, s))) for variant in run.variants for s in variant.scores)
    return [
        {
            "variant": variant,
            "case": pair[0].case,
            "structure": key.structure,
            "metric": key.kind,
            "column": name,
            "value": score_of(pair[0], key),
            "baseline": score_of(pair[1], key),
            "counts": not is_left_out(record, pair, key.structure or ""),
        }
        for variant, pair in pairs
        for key, name in keys.items()
    ]


def variant_rows(summary: Summary) -> list[Cells]:
    """A row for each variant: verdict, bounds, medians, mean scores; "not applicable" where the network gives none."""
    classes = sorted({name for row in summary.rows for name in row.accuracy.f1})
    names = columns(summary.record.task, summary.record.settings.accuracy)
    return [_variant_cells(row, classes, names) for row in summary.rows]


def figures(cells: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among the cells of a row, which an experiment tracker takes as metrics."""
    numbers = {name: value for name, value in cells.items() if isinstance(value, (int, float, Decimal))}
    return {n: float(v) for n, v in numbers.items() if not isinstance(v, bool) and isfinite(v)}


def interval_cells(name: str, interval: Interval) -> Cells:
    """An estimate and its bounds, each with one-sided 95 % confidence."""
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _sample_cells(variant: str, sample: Sample, true_subtype: int | None) -> Cells:
    load, usage = sample.system_load or SystemLoad(), sample.usage or Usage()
    cells: Cells = {"variant": variant, "phase": sample.phase, "case": sample.case, "round": sample.round}
    cells |= {"shard": sample.shard, "launch": sample.launch, "case_s": _seconds(sample.case_ns)}
    cells |= {f"{stage}_s": _seconds(sample.stages_ns.get(stage)) for stage in STAGES}
    cells |= {"device_s": _seconds(sample.device_ns), "cpu_s": _seconds(sample.cpu_ns), "tiles": sample.tiles}
    cells |= {"started_unix_s": sample.started_unix_s, "true_subtype": true_subtype, "subtype": sample.subtype}
    cells |= {"others_cores": load.others, "stolen_cores": load.stolen, "throttled_cores": load.throttled}
    cells |= {"mhz": load.mhz, "memory_byte_s": usage.memory_byte_s, "flare_memory_mb_s": usage.flare_memory_mb_s}
    cells |= {"flare_cpu_pct_s": usage.flare_cpu_pct_s, "cpu_energy_j": usage.cpu_energy_j, "workers": sample.workers}
    return cells | _gpu_cells(sample.gpu or GpuState()) | _roi_cells(sample)


def _gpu_cells(gpu: GpuState) -> Cells:
    throttled = ", ".join(gpu.throttled_by) if gpu != GpuState() else None
    return {f"gpu_{name}": value for name, value in vars(gpu).items()} | {"gpu_throttled_by": throttled}


def _roi_cells(sample: Sample) -> Cells:
    roi = sample.roi
    names = ("fallback", "passes", "tiles", "reused")
    return {f"roi_{name}": getattr(roi, name) if roi else None for name in names}


def _variant_cells(row: Row, classes: list[int], names: Mapping[MetricKey, str]) -> Cells:
    cells: Cells = {"name": row.name, "status": row.status, "verdict": row.verdict}
    cells |= {"shown_by": row.accuracy.shown_by}
    for scope, speed in (("case", row.case), ("forward", row.forward)):
        cells |= interval_cells(f"{scope}_time_reduction_pct", speed.reduction)
        cells |= interval_cells(f"{scope}_speedup", speed.speedup)
    cells |= {"case_median_s": row.latency.median, "case_p95_s": row.latency.p95}
    cells |= {"forward_median_s": row.forward_latency.median, "forward_p95_s": row.forward_latency.p95}
    cells |= {f"{stage}_median_s": row.stages_s[stage] for stage in STAGES}
    cells |= {"cases": row.case.cases, "samples": row.case.pairs, "build_s": row.build_s}
    cells |= {"build_cached": row.build_cached, "peak_memory_bytes": row.peak_memory_bytes}
    cells |= vars(row.resources)
    for key, metric in row.accuracy.metrics.items():
        name = names[key]
        scores: Cells = {name: metric.value} | interval_cells(f"{name}_delta", metric.delta)
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


def _seconds(nanoseconds: int | None) -> Decimal | None:
    """Exact: nine decimals hold every nanosecond."""
    return None if nanoseconds is None else Decimal(nanoseconds).scaleb(-9)
