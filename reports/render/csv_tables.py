"""Tables for other programs: a row for each variant, and a row for each timed case."""

import csv
import io
from collections.abc import Iterable
from decimal import Decimal
from math import isfinite
from typing import Any

from reports.decision.accuracy import is_applicable
from reports.formatting import NOT_APPLICABLE
from reports.records.record import STAGES
from reports.records.store import Run
from reports.render.exchange.rows import sample_rows, score_columns, score_rows, variant_rows
from reports.summary.summary import Summary

_CASE_COLUMNS = (
    "variant", "phase", "case", "round", "launch", "case_s", *(f"{stage}_s" for stage in STAGES), "device_s", "cpu_s",
    "tiles", "started_unix_s", "true_subtype", "subtype", "voxels", "differing_voxels", "others_cores", "stolen_cores",
    "mhz", "memory_byte_s", "cpu_energy_j",
)  # fmt: skip


def render(summary: Summary) -> str:
    """A row for each variant; empty where nothing was measured, and "not applicable" where the network gives no such
    score. Times in seconds, memory in bytes.
    """
    return _csv_text(variant_rows(summary))


def cases_csv(run: Run) -> str:
    """The tidy table of raw values: a row for each variant, phase, case and round, in the order they were measured.

    Times are in seconds. ``subtype`` is that sample's prediction; the scores are those of the variant's kept
    prediction of the case, and so repeat over its rounds. What the network does not give is "not applicable", and what
    counts nothing in a case, as neither the truth nor both predictions hold it, is empty. Of a merged run each row
    begins with its shard.
    """
    task, names = run.record.task, score_columns(run.record)
    missing = {name: NOT_APPLICABLE for key, name in names.items() if not is_applicable(task, key)}
    missing |= {} if run.record.classifies else {"subtype": NOT_APPLICABLE}
    scored = _scores_by_case(run)
    rows = [cells | scored.get((cells["variant"], cells["case"]), {}) | missing for cells in sample_rows(run)]
    shard = ("shard",) if run.record.shards else ()
    return _csv_text(rows, (*shard, *_CASE_COLUMNS, *names.values()))


def _scores_by_case(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """The cells of each variant's prediction of a case."""
    cells: dict[tuple[str, str], dict[str, Any]] = {
        (variant.name, score.case): {"voxels": score.voxels, "differing_voxels": score.differing_voxels}
        for variant in run.variants
        for score in variant.scores
    }
    for row in score_rows(run):
        cells[row["variant"], row["case"]][row["column"]] = row["value"] if row["counts"] else None
    return cells


def _csv_text(rows: list[dict[str, Any]], columns: Iterable[str] | None = None) -> str:
    text = io.StringIO()
    names = list(columns or rows[0]) if columns or rows else []
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return ""
    return f"{value:f}" if isinstance(value, Decimal) else value
