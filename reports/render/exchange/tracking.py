"""What an experiment tracker, such as MLflow or Weights & Biases, keeps of a run: plain names and values.

A run is a tracked run of its own, and each of its variants another one below it. So a tracker's own tables and charts
show variants side by side, under the same names in every run: the columns of the table of variants.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reports.decision.verdict import MARGINS
from reports.records.record import RunRecord, VariantSettings
from reports.records.store import Run
from reports.render.exchange.rows import figures, interval_cells, variant_rows
from reports.summary.summary import Row, Summary

RUN_TAG = "voxbench.run"  # holds the run's id, by which a run is known again


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What is kept of a run, or of a variant.

    Attributes:
        name: to be shown.
        parameters: what it was made with, as text.
        metrics: finite numbers, the unit in their names.
        tags: what it is and came to.
        note: a few lines of Markdown.
    """

    name: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A run with its variants; it began and ended at these seconds since 1970."""

    run: TrackedRun
    variants: tuple[TrackedRun, ...]
    started_unix_s: float
    ended_unix_s: float


def tracked(run: Run, summary: Summary) -> Tracked:
    """What is kept of `run`, under the verdict of `summary`."""
    samples = [sample for variant in run.variants for sample in variant.samples]
    starts = [sample.started_unix_s for sample in samples]
    cells = {row["name"]: figures(row) for row in variant_rows(summary)}
    return Tracked(
        run=_whole(run.record, summary, cells.get(summary.subject or "", {})),
        variants=tuple(_variant(summary, row, cells[row.name]) for row in summary.rows),
        started_unix_s=min(starts, default=0.0),
        ended_unix_s=max((s.started_unix_s + s.case_ns / 1e9 for s in samples), default=0.0),
    )


def _whole(record: RunRecord, summary: Summary, of_subject: Mapping[str, float]) -> TrackedRun:
    """The figures are those of the subject, with its confirmation, on which the verdict rests."""
    confirmed: dict[str, Any] = {}
    if summary.confirmation is not None:
        for name in ("reduction", "speedup"):
            column = "confirmation_time_reduction_pct" if name == "reduction" else "confirmation_speedup"
            confirmed |= interval_cells(column, getattr(summary.confirmation, name))
    tags = _tags(summary) | {"voxbench.kind": "run", "voxbench.headline": summary.headline}
    tags |= {"voxbench.run_sha256": summary.run.sha256, "voxbench.status": record.status}
    return TrackedRun(
        name=record.id,
        parameters=dict(_parameters(summary)),
        metrics={**of_subject, **figures(confirmed), "cases": float(summary.cases), "rounds": float(summary.rounds)},
        tags=tags,
        note="\n".join([f"**{summary.headline}**", "", *(f"- {reason}" for reason in summary.reasons)]),
    )


def _variant(summary: Summary, row: Row, metrics: Mapping[str, float]) -> TrackedRun:
    tags = _tags(summary) | {"voxbench.kind": "variant", "voxbench.variant": row.name, "voxbench.status": row.status}
    tags["voxbench.verdict"] = row.verdict or ("baseline" if row.is_baseline else "peer" if row.is_peer else "none")
    if row.reason:
        tags["voxbench.reason"] = row.reason
    settings = _made_of(row.settings) | {"build_cached": row.build_cached}
    return TrackedRun(
        name=row.name,
        parameters={name: str(value) for name, value in settings.items()},
        metrics=metrics,
        tags=tags,
        note="\n".join(f"- {reason}" for reason in row.reasons),
    )


def _tags(summary: Summary) -> dict[str, str]:
    """By which runs and variants are searched for."""
    return {
        RUN_TAG: summary.record.id,
        "voxbench.verdict": summary.verdict,
        "voxbench.shown_by": summary.claim.accuracy,
        "voxbench.baseline": summary.record.baseline,
        "voxbench.best": summary.best or "none",
        "voxbench.subject": summary.subject or "none",
    }


def _made_of(settings: VariantSettings) -> dict[str, Any]:
    names = ("backend", "roi", "overlap", "batch", "tta", "rewrites", "repeat", "recipe", "command")
    values = {name: value for name in names if (value := getattr(settings, name)) not in (None, ())}
    return {name: ", ".join(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _parameters(summary: Summary) -> Iterator[tuple[str, str]]:
    """Settings, claim, hashes, machine and versions, by names such as ``host.processor``."""
    record, settings = summary.record, summary.record.settings
    for name in ("device", "protocol", "overlap", "roi", "tta", "tile", "batch", "threads", "allocator", "seed",
                 "rounds", "budget_s", "absent", "preprocessing"):  # fmt: skip
        value = record.threads if name == "threads" else getattr(settings, name)
        yield name, "auto" if value is None else " x ".join(map(str, value)) if name == "tile" else str(value)
    for name in ("min_reduction_pct", *MARGINS[summary.claim.accuracy]):
        yield f"claim.{name}", str(getattr(summary.claim, name))
    for name, value in _hashes(record).items():
        yield f"sha256.{name}", value
    yield "task", record.task.name
    yield "architecture", record.checkpoint.architecture
    yield "split", record.data.split
    yield "command", record.command
    for name, value in record.host.known().items():
        yield f"host.{name}", str(value)
    for name, value in record.versions.items():
        yield f"version.{name}", value


def _hashes(record: RunRecord) -> dict[str, str]:
    """What the run was made of; empty ones left out."""
    hashes = {
        "checkpoint": record.checkpoint.sha256, "weights": record.checkpoint.weights_sha256,
        "code": record.checkpoint.code, "data": record.data.sha256, "plan": record.settings.plan_sha256,
    }  # fmt: skip
    return {name: value for name, value in hashes.items() if value}
