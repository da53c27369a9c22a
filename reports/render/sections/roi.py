"""The report's ROI: what cropping cost, and what of the truth it lost."""

from collections.abc import Iterable, Sequence

from reports.analysis.roi import CRITICAL, RoiUse
from reports.formatting import NOT_MEASURED, count
from reports.render.commonmark import bullets, section, table, text
from reports.summary.summary import Row, Summary


def roi_section(summary: Summary) -> str:
    """A table of the strategy's cost and safety; empty where the full volume was asked for."""
    rows = [(row, row.roi) for row in summary.measured if row.roi is not None]
    if not rows:
        return ""
    structures = list(summary.record.task.structures)
    outside = [f"{name} voxels outside" for name in structures]
    head = ["variant", "cases", "fell back", "tiles to choose", "of all tiles", *outside, "safety"]
    note = (
        f"Strategy {text(summary.record.settings.roi)}. *Tiles to choose*: tiles that the strategy itself sent through "
        "the network; their time is in the case. *Outside*: voxels of the ground truth outside the region whose tiles "
        "were all run, where the mask is background; counted after the timed region. A case that loses a voxel of the "
        f"{CRITICAL} fails the safety."
    )
    body = table(head, [_roi_row(row, use, structures) for row, use in rows])
    return section("ROI", body, note, bullets(_case_notes(rows)))


def _roi_row(row: Row, use: RoiUse, structures: Sequence[str]) -> list[str]:
    outside = [str(use.outside.get(name, 0)) if use.scored else NOT_MEASURED for name in structures]
    safety = NOT_MEASURED if not use.scored else "**fails**" if use.lost else "kept"
    return [text(row.name), str(use.cases), str(len(use.fallbacks)), str(use.tiles), str(use.all_tiles), *outside,
            safety]  # fmt: skip


def _case_notes(rows: Sequence[tuple[Row, RoiUse]]) -> Iterable[str]:
    for row, use in rows:
        if use.lost:
            cases = f"{count(len(use.lost), 'case')}: {', '.join(map(text, use.lost))}"
            yield f"{text(row.name)} fails the safety: {CRITICAL} voxels lost in {cases}."
        if use.fallbacks:
            yield f"{text(row.name)} fell back to the full volume in: {', '.join(map(text, use.fallbacks))}."
