"""The report's ROI: what cropping cost, and what of the truth it lost."""

from collections.abc import Iterable, Sequence

from reports.analysis.roi import RoiUse, critical_structures
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, SHOWN, count, listed
from reports.records.record import AGREEMENT
from reports.render.commonmark import bullets, fold, section, table, text
from reports.summary.summary import Row, Summary


def roi_section(summary: Summary) -> str:
    """A table of the strategy's cost and safety; empty where the full volume was asked for."""
    rows = [(row, row.roi) for row in summary.measured if row.roi is not None]
    if not rows:
        return ""
    if summary.record.settings.accuracy == AGREEMENT:
        return _without_truth(summary, rows)
    structures = list(summary.record.task.structures)
    critical = critical_structures(summary.record.task)
    shown = _shown(structures, critical, rows)
    head = ["variant", "cases", "fell back", "tiles to choose", "of all tiles",
            *(f"{text(name)} voxels outside" for name in shown), "safety"]  # fmt: skip
    note = (
        f"Strategy {text(summary.record.settings.roi)}. *Tiles to choose*: tiles that the strategy itself sent through "
        "the network; their time is in the case. *Outside*: voxels of the ground truth outside the region whose tiles "
        "were all run, where the mask is background; counted after the timed region. A case that loses a voxel of the "
        f"{text(_or(critical))} fails the safety."
    )
    if not critical:
        note = note.rpartition(" A case that")[0] + " The task has no critical structure, so that no case can fail."
    body = table(head, [_roi_row(row, use, shown) for row, use in rows])
    return section("ROI", body, _folded(structures, shown, rows), note, bullets(_case_notes(rows, critical)))


def _without_truth(summary: Summary, rows: Sequence[tuple[Row, RoiUse]]) -> str:
    """What the strategy cost; what it lost only a truth would show."""
    head = ["variant", "cases", "fell back", "tiles to choose", "of all tiles", "safety"]
    body = [[*_roi_row(row, use, ())[:-1], NOT_APPLICABLE] for row, use in rows]
    note = (
        f"Strategy {text(summary.record.settings.roi)}. *Tiles to choose*: tiles that the strategy itself sent through "
        "the network; their time is in the case. The safety, voxels of the truth outside the region, is not "
        "applicable, as nothing is scored against a truth. What the region cuts off counts in the agreement where the "
        "baseline's mask holds it."
    )
    return section("ROI", table(head, body), note, bullets(_case_notes(rows, ())))


def _shown(structures: Sequence[str], critical: Sequence[str], rows: Sequence[tuple[Row, RoiUse]]) -> Sequence[str]:
    """Those that lost most, critical ones first."""
    if len(structures) <= SHOWN:
        return structures
    most = {name: max(use.outside.get(name, 0) for _, use in rows) for name in structures}
    worst = sorted(structures, key=lambda name: (name in critical and most[name] > 0, most[name]), reverse=True)[:SHOWN]
    return [name for name in structures if name in worst]


def _folded(structures: Sequence[str], shown: Sequence[str], rows: Sequence[tuple[Row, RoiUse]]) -> str:
    if len(shown) == len(structures):
        return ""
    body = [[text(name), *(_outside_cell(use, name) for _, use in rows)] for name in structures]
    head = ["voxels outside", *(text(row.name) for row, _ in rows)]
    return fold(f"All {len(structures)} structures; above are the {SHOWN} that lost most", table(head, body))


def _or(names: Sequence[str]) -> str:
    return " or ".join(names) if len(names) <= SHOWN else f"{len(names)} critical structures"


def _roi_row(row: Row, use: RoiUse, structures: Sequence[str]) -> list[str]:
    outside = [_outside_cell(use, name) for name in structures]
    safety = NOT_MEASURED if not use.scored else "**fails**" if use.lost else "kept"
    return [text(row.name), str(use.cases), str(len(use.fallbacks)), str(use.tiles), str(use.all_tiles), *outside,
            safety]  # fmt: skip


def _outside_cell(use: RoiUse, structure: str) -> str:
    return str(use.outside.get(structure, 0)) if use.scored else NOT_MEASURED


def _case_notes(rows: Sequence[tuple[Row, RoiUse]], critical: Sequence[str]) -> Iterable[str]:
    for row, use in rows:
        if use.lost:
            cases = f"{count(len(use.lost), 'case')}: {', '.join(map(text, use.lost))}"
            lost = listed([text(name) for name in critical if use.outside.get(name)])
            yield f"{text(row.name)} fails the safety: {lost} voxels lost in {cases}."
        if use.fallbacks:
            yield f"{text(row.name)} fell back to the full volume in: {', '.join(map(text, use.fallbacks))}."
