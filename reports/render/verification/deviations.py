"""What did not go as it should, and what may have changed for whoever uses the masks."""

from collections.abc import Iterator
from math import isfinite

from reports import formatting
from reports.formatting import NOT_APPLICABLE, count
from reports.records.record import COMPLETE, FAILED, SKIPPED
from reports.render.commonmark import bullets, section, table, text, words
from reports.render.verification.tested import NOT_STATED
from reports.summary.summary import Row, Summary


def deviations_section(title: str, summary: Summary) -> str:
    """Everything that a reader must know before believing the result; that there is none is said too."""
    lines = list(_deviations(summary))
    left = [
        [text(row.name), row.status, text(row.reason or "no reason recorded")]
        for row in summary.rows
        if row.status in (SKIPPED, FAILED)
    ]
    without = words(["variant without a result", "what became of it", "why"], left) if left else ""
    return section(title, bullets(lines) if lines else "None was recorded.", without)


def _deviations(summary: Summary) -> Iterator[str]:
    record = summary.record
    if record.status != COMPLETE:
        yield f"The run is {text(record.status)}: it did not come to its end."
    if summary.declaration is None:
        yield "The claim was not declared in a plan before the run."
    elif not summary.has_declared_claim:
        yield f"The claim judged here is {text(summary.declaration)}."
    if summary.confirmation is None and summary.subject is not None:
        yield f"{text(summary.subject)} was not timed again on fresh samples after it was chosen."
    for name in summary.missing_required:
        yield f"The required variant {text(name)} was not measured."
    for row in summary.rows:
        if row.partial:
            yield f"{text(row.name)} was measured only in part."
    if summary.interference.flagged:
        samples = count(summary.interference.samples, "timed sample")
        verdict = summary.interference.verdict
        without = "Without them no pair is left" if verdict is None else f"Without them the verdict is {verdict}"
        yield (
            f"Taken while the machine did something else: {summary.interference.flagged} of {samples}, which are kept. "
            f"{without}."
        )
    elif not summary.interference.recorded:
        yield "What else the machine did during the samples was not recorded."
    yield from (f"Note of the run: {text(warning)}." for warning in summary.warnings)


def impact_section(title: str, summary: Summary) -> str:
    """What differs from the reference's output, beside what the criteria ask."""
    row = summary.row(summary.subject)
    if row is None or not row.accuracy.cases:
        return section(title, "No output was compared with the reference's.", _risks())
    facts = [
        ("voxels labelled otherwise than by the reference", formatting.share(row.accuracy.voxel_disagreement)),
        ("the same of the reference against its own repetition", _noise(summary)),
        ("cases whose class is another", _flips(row)),
        *_worst(row),
        ("peak memory, beside the reference's", _memory(summary, row)),
    ]
    return section(title, words(["what may have changed", "observed"], [list(fact) for fact in facts]), _risks())


def _risks() -> str:
    return f"Benefits and risks of the change for patients, and what controls them: {NOT_STATED}."


def _noise(summary: Summary) -> str:
    voxels = summary.noise.get("voxels", 0)
    return formatting.share(summary.noise.get("differing_voxels", 0) / voxels) if voxels else formatting.NOT_MEASURED


def _flips(row: Row) -> str:
    if not row.accuracy.metric(row.accuracy.class_key).applicable:
        return NOT_APPLICABLE
    cases = f": {', '.join(text(flip.case) for flip in row.accuracy.flips)}" if row.accuracy.flips else ""
    return f"{len(row.accuracy.flipped)} of {row.accuracy.cases}{cases}"


def _worst(row: Row) -> list[tuple[str, str]]:
    """The case that lost most of each structure's DSC."""
    return [
        (f"lowest against the reference in {key.label}", f"case {text(metric.worst_case)}")
        for key, metric in row.accuracy.metrics.items()
        if metric.worst_case and isfinite(metric.delta.estimate) and metric.delta.estimate < 0 and key.kind == "dsc"
    ]


def _memory(summary: Summary, row: Row) -> str:
    baseline = summary.row(summary.record.baseline)
    before = formatting.mebibytes(baseline.peak_memory_bytes) if baseline else formatting.NOT_MEASURED
    return f"{formatting.mebibytes(row.peak_memory_bytes)}, {before}"


def signatures() -> str:
    """To be filled by hand."""
    rows = [[role, "", "", ""] for role in ("prepared by", "reviewed by", "approved by")]
    return table(["", "name and function", "date", "signature"], rows, (0, 1, 2, 3))
