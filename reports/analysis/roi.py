"""The report's ROI: what cropping cost, and what of the truth it lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.formatting import NOT_MEASURED, count
from reports.records.record import Sample, Score
from reports.render.commonmark import bullets, section, table, text

if TYPE_CHECKING:
    from reports.summary import Row, Summary


@dataclass(frozen=True)
class RoiUse:
    """What a ROI strategy did over the cases of a backend; of each case its first sample of the duels.

    Attributes:
        cases: with a ROI; `scored`: those of them with a mask of the truth.
        fallbacks: names of the cases that fell back to the full volume.
        passes, tiles: forward passes and tiles that it took to choose; `all_tiles`: that the cases took in all.
        whole_outside, lesion_outside: voxels of the truth outside the regions, over all cases.
        lost: names of the cases with a lesion voxel outside: they fail the safety.
    """

    cases: int
    scored: int
    fallbacks: tuple[str, ...]
    passes: int
    tiles: int
    all_tiles: int
    whole_outside: int
    lesion_outside: int
    lost: tuple[str, ...]


def roi_use(samples: Iterable[Sample], scores: Iterable[Score]) -> RoiUse | None:
    """What the strategy did; None without one."""
    first: dict[str, Sample] = {}
    for one in sorted(samples, key=lambda s: (s.round, s.start)):
        first.setdefault(one.case, one)
    chosen = [(one, one.roi) for one in first.values() if one.roi is not None]
    if not chosen:
        return None
    scored = [s for s in scores if s.whole_outside is not None]
    return RoiUse(
        len(chosen), len(scored), tuple(sorted(one.case for one, roi in chosen if roi.fallback)),
        sum(roi.passes for _, roi in chosen), sum(roi.tiles for _, roi in chosen),
        sum(one.tiles for one, _ in chosen),
        sum(s.whole_outside or 0 for s in scored), sum(s.lesion_outside or 0 for s in scored),
        tuple(sorted(s.case for s in scored if s.lesion_outside)),
    )  # fmt: skip


def roi_section(summary: "Summary") -> str:
    """A table of the strategy's cost and safety; empty where the full volume was asked for."""
    rows = [(row, row.roi) for row in summary.measured if row.roi is not None]
    if not rows:
        return ""
    head = ["backend", "cases", "fell back", "tiles to choose", "of all tiles", "pancreas voxels outside",
            "lesion voxels outside", "safety"]  # fmt: skip
    note = (
        f"Strategy {text(summary.record.settings.roi)}. *Tiles to choose*: tiles that the strategy itself sent through "
        "the network; their time is in the case. *Outside*: voxels of the ground truth outside the region whose tiles "
        "were all run, where the mask is background; counted after the timed region. A case that loses a lesion voxel "
        "fails the safety."
    )
    return section("ROI", table(head, [_cells(row, use) for row, use in rows]), note, bullets(_named(rows)))


def _cells(row: "Row", use: RoiUse) -> list[str]:
    outside = [str(use.whole_outside), str(use.lesion_outside)] if use.scored else [NOT_MEASURED] * 2
    safety = NOT_MEASURED if not use.scored else "**fails**" if use.lost else "kept"
    return [text(row.name), str(use.cases), str(len(use.fallbacks)), str(use.tiles), str(use.all_tiles), *outside,
            safety]  # fmt: skip


def _named(rows: Sequence[tuple["Row", RoiUse]]) -> Iterable[str]:
    for row, use in rows:
        if use.lost:
            cases = ", ".join(map(text, use.lost))
            yield f"{text(row.name)} fails the safety: lesion voxels lost in {count(len(use.lost), 'case')}: {cases}."
        if use.fallbacks:
            yield f"{text(row.name)} fell back to the full volume in: {', '.join(map(text, use.fallbacks))}."
