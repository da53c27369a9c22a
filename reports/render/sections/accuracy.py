"""The report's accuracy: scores, flipped cases, and what so many cases could have detected."""

from collections.abc import Iterable
from math import isfinite

from reports import formatting
from reports.decision.accuracy import MACRO_F1, Metric, MetricKey
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, count
from reports.render.commonmark import bullets, section, table, text, words
from reports.stats.power import ENOUGH_FOR_F1, LOST_SHARE
from reports.summary.summary import Row, Summary


def accuracy_section(summary: Summary) -> str:
    """The scores beside the baseline's, the flipped cases, and the noise floor."""
    rows = [row for row in summary.measured if row.accuracy.cases]
    if not rows:
        return ""
    keys = list(rows[0].accuracy.metrics)
    head = ["variant", *(f"{key.label}: value, delta [low]" for key in keys), "class flips", "voxels changed"]
    applicable = [key for key, metric in rows[0].accuracy.metrics.items() if metric.applicable]
    margins = ", ".join(f"{key.label} {summary.claim.margin(key):g}" for key in applicable)
    note = (
        "The value is the mean over cases against the ground truth (macro-F1: over classes); delta is the paired "
        "difference to the baseline, [low] its lower bound with one-sided 95 % confidence, which must not lie below "
        f"minus the margin ({margins}). Flips and changed voxels count against the baseline's own output."
    )
    body = table(head, [_accuracy_row(row, keys) for row in rows])
    return section("Accuracy", body, note, *_flips_and_tests(rows), _noise_floor(summary))


def _accuracy_row(row: Row, keys: Iterable[MetricKey]) -> list[str]:
    metrics: Iterable[Metric] = (row.accuracy.metric(key) for key in keys)
    flips = "reference" if row.is_baseline else f"{len(row.accuracy.flipped)} of {row.accuracy.cases}"
    if not row.accuracy.metric(MACRO_F1).applicable:
        flips = NOT_APPLICABLE
    changed = "reference" if row.is_baseline else formatting.share(row.accuracy.voxel_disagreement)
    return [text(row.name), *(_metric_cell(metric, row.is_baseline) for metric in metrics), flips, changed]


def _flips_and_tests(rows: list[Row]) -> tuple[str, str]:
    flips = [
        [text(row.name), text(flip.case), *map(_class_name, (flip.truth, flip.baseline, flip.candidate))]
        for row in rows
        for flip in row.accuracy.flips
    ]
    tested = [(text(row.name), row.accuracy.mcnemar) for row in rows if row.accuracy.flips]
    tests = bullets(
        f"{name}: {count(test.lost, 'case')} right by the baseline alone, {test.gained} by {name} alone "
        f"(McNemar's exact test, p = {test.p:.2g})."
        for name, test in tested
        if isfinite(test.p)
    )
    return words(["variant", "flipped case", "truth", "baseline", "variant's class"], flips) if flips else "", tests


def _class_name(subtype: int | None) -> str:
    return "unknown" if subtype is None else str(subtype)


def detectable_section(summary: Summary) -> str:
    """The smallest losses that so many cases would have shown."""
    rows = [row for row in summary.measured if row.accuracy.cases and not row.is_baseline]
    scored = rows[0].accuracy.metrics if rows else {}
    keys = [key for key in scored if any(isfinite(row.accuracy.metric(key).detectable) for row in rows)]
    if not keys:
        return ""
    head = ["variant", "cases", *(f"{key.label}{', share of cases' * (key == MACRO_F1)}" for key in keys)]
    cells = [
        [
            text(row.name),
            str(row.accuracy.cases),
            *(_detectable_cell(key, row.accuracy.metric(key)) for key in keys),
        ]
        for row in rows
    ]
    margins = ", ".join(f"{key.label} {summary.claim.margin(key):g}" for key in keys)
    note = (
        "The smallest loss that so many cases would have shown with a power of 80 %: of a mean score by the spread of "
        "its paired differences, of macro-F1 as the share of cases whose class is lost. A loss below it may be there "
        "unseen. *No spread*: all cases differ from the baseline by the same, most often by nothing. "
        f"The margins are {margins}. A macro-F1 counts as kept from {ENOUGH_FOR_F1} cases, which show a share "
        f"of {formatting.plain_percent(100 * LOST_SHARE)}."
    )
    return section("What these cases could have detected", table(head, cells), note)


def _detectable_cell(key: MetricKey, metric: Metric) -> str:
    if not metric.applicable:
        return NOT_APPLICABLE
    if not isfinite(metric.detectable):
        return NOT_MEASURED
    if key == MACRO_F1:
        return formatting.percent(100 * metric.detectable)
    if not metric.detectable:
        return "no spread"
    return f"{metric.detectable:.4f}" if metric.detectable >= 5e-5 else f"{metric.detectable:.0e}"


def _metric_cell(metric: Metric, is_baseline: bool) -> str:
    if not metric.applicable:
        return NOT_APPLICABLE
    if not metric.cases:
        return NOT_MEASURED
    if is_baseline:
        return formatting.score(metric.value)
    low = f" [{formatting.change(metric.delta.low)}]" if isfinite(metric.delta.low) else ""
    return f"{formatting.score(metric.value)}, {formatting.change(metric.delta.estimate)}{low}"


def _noise_floor(summary: Summary) -> str:
    voxels = summary.noise.get("voxels", 0)
    if not voxels:
        return "Noise floor (the baseline against itself): not measured."
    changed = formatting.share(summary.noise.get("differing_voxels", 0) / voxels)
    flips = f"class flips {NOT_APPLICABLE}"
    if summary.record.classifies:
        flips = count(summary.noise.get("class_flips", 0), "class flip")
    return f"Noise floor (the baseline against its own repetition): {changed} of the voxels changed, {flips}."
