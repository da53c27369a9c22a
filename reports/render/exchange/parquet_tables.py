"""The tables of a run as Parquet, each column with its unit, each file with the run that it is of.

Columns have fixed types, so that the files of many runs are read as one table, whatever was measured in each.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from reports.formatting import NOT_APPLICABLE
from reports.records.record import SCHEMA
from reports.records.store import Run
from reports.render.exchange.rows import Cells, sample_rows, score_rows, unit, variant_rows
from reports.summary.summary import Summary

_TEXT = {
    "variant", "phase", "case", "gpu_throttled_by", "structure", "metric", "column", "name", "status", "verdict",
    "shown_by", "provider", "reason", "fix", "log",
}  # fmt: skip
_FLAGS = {"counts", "roi_fallback", "build_cached", "never_pays_off"}
_WHOLE = {
    "round", "shard", "launch", "tiles", "true_subtype", "subtype", "workers", "gpu_sm_mhz", "gpu_memory_mhz",
    "gpu_temperature_c", "gpu_process_memory_bytes", "gpu_processes", "roi_passes", "roi_tiles", "roi_reused", "cases",
    "samples", "peak_memory_bytes", "break_even_cases", "class_flips",
}  # fmt: skip
"""The columns that are not of 64-bit floating-point numbers."""

_SAMPLE_COLUMNS = ("variant", "phase", "case", "round")  # of a table without rows
_SCORE_COLUMNS = ("variant", "case", "structure", "metric", "column", "value", "baseline", "counts")


def render(summary: Summary) -> dict[str, bytes]:
    """The files of a folder, by name.

    ``samples.parquet`` has a row for each timed case, ``scores.parquet`` for each variant, case and score of a
    structure, ``variants.parquet`` for each variant. What does not apply to the network is null there.

    Raises:
        ImportError: pyarrow is not installed.
    """
    run = summary.run
    tables = {
        "samples": (sample_rows(run), _SAMPLE_COLUMNS),
        "scores": (score_rows(run), _SCORE_COLUMNS),
        "variants": (variant_rows(summary), ("name",)),
    }
    notes = _notes(run, summary)
    return {f"{name}.parquet": _parquet(rows, columns, notes) for name, (rows, columns) in tables.items()}


def _notes(run: Run, summary: Summary) -> dict[str, str]:
    """What the metadata of every file say, under names that begin with ``voxbench.``."""
    record = run.record
    notes = {
        "schema": str(SCHEMA), "run": record.id, "run_sha256": run.sha256, "created": record.created,
        "status": record.status, "version": record.versions.get("voxbench", ""), "verdict": summary.verdict,
        "headline": summary.headline, "shown_by": summary.claim.accuracy, "baseline": record.baseline,
        "subject": summary.subject or "", "weights_sha256": record.checkpoint.weights_sha256,
        "data_sha256": record.data.sha256, "plan_sha256": record.settings.plan_sha256,
    }  # fmt: skip
    return {f"voxbench.{name}": _printable(value) for name, value in notes.items()}


def _parquet(rows: Sequence[Cells], columns: Iterable[str], notes: Mapping[str, str]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    names = list(rows[0]) if rows else list(columns)
    fields = [_field(name) for name in names]
    values = [
        pa.array([_value(row[name], name) for row in rows], own.type) for name, own in zip(names, fields, strict=True)
    ]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(values, schema=pa.schema(fields, notes)), sink, compression="zstd")
    return bytes(sink.getvalue())


def _field(name: str) -> Any:
    """The `pyarrow.Field` of a column."""
    import pyarrow as pa

    kinds = ((_TEXT, pa.string()), (_FLAGS, pa.bool_()), (_WHOLE, pa.int64()))
    kind = next((own for names, own in kinds if name in names), pa.float64())
    return pa.field(name, kind, metadata={"unit": unit(name)} if unit(name) else None)


def _value(value: Any, column: str) -> Any:
    """As Arrow takes it; null where there is none."""
    if value is None or column in _FLAGS:
        return value
    if column in _TEXT:
        return _printable(value)
    if value == NOT_APPLICABLE or not isfinite(value):
        return None
    return int(value) if column in _WHOLE else float(value)


def _printable(text: str) -> str:
    """Names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()
