"""What cropping to a ROI cost, and what of the truth it lost."""

from collections.abc import Iterable
from dataclasses import dataclass

from reports.records.record import Sample, Score


@dataclass(frozen=True, kw_only=True)
class RoiUse:
    """What a ROI strategy did over the cases of a backend; of each case its first interleaved sample.

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
    """What the strategy did; None without a ROI."""
    first: dict[str, Sample] = {}
    for sample in sorted(samples, key=lambda s: (s.round, s.launch)):
        first.setdefault(sample.case, sample)
    chosen = [(sample, sample.roi) for sample in first.values() if sample.roi is not None]
    if not chosen:
        return None
    scored = [s for s in scores if s.whole_outside is not None]
    return RoiUse(
        cases=len(chosen),
        scored=len(scored),
        fallbacks=tuple(sorted(sample.case for sample, roi in chosen if roi.fallback)),
        passes=sum(roi.passes for _, roi in chosen),
        tiles=sum(roi.tiles for _, roi in chosen),
        all_tiles=sum(sample.tiles for sample, _ in chosen),
        whole_outside=sum(s.whole_outside or 0 for s in scored),
        lesion_outside=sum(s.lesion_outside or 0 for s in scored),
        lost=tuple(sorted(s.case for s in scored if s.lesion_outside)),
    )
