"""What cropping to a ROI cost, and what of the truth it lost."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.records.record import Sample, Score, TaskRecord


@dataclass(frozen=True, kw_only=True)
class RoiUse:
    """What a ROI strategy did over the cases of a variant; of each case its first interleaved sample.

    Attributes:
        cases: with a ROI; `scored`: those of them with a mask of the truth.
        fallbacks: names of the cases that fell back to the full volume.
        passes, tiles: forward passes and tiles that it took to choose; `all_tiles`: that the cases took in all.
        outside: voxels of each structure of the truth outside the regions, over all cases.
        lost: names of the cases with a voxel of a critical structure outside: they fail the safety.
    """

    cases: int
    scored: int
    fallbacks: tuple[str, ...]
    passes: int
    tiles: int
    all_tiles: int
    outside: Mapping[str, int]
    lost: tuple[str, ...]


def roi_use(samples: Iterable[Sample], scores: Iterable[Score], task: TaskRecord) -> RoiUse | None:
    """What the strategy did; None without a ROI."""
    first: dict[str, Sample] = {}
    for sample in sorted(samples, key=lambda s: (s.round, s.launch)):
        first.setdefault(sample.case, sample)
    chosen = [(sample, sample.roi) for sample in first.values() if sample.roi is not None]
    if not chosen:
        return None
    outside: Counter[str] = Counter()
    lost, scored, critical = [], 0, critical_structures(task)
    for score in scores:
        counts = {name: own.outside for name, own in score.structures.items() if own.outside is not None}
        scored += bool(counts)
        outside.update(counts)
        if any(counts.get(name) for name in critical):
            lost.append(score.case)
    return RoiUse(
        cases=len(chosen),
        scored=scored,
        fallbacks=tuple(sorted(sample.case for sample, roi in chosen if roi.fallback)),
        passes=sum(roi.passes for _, roi in chosen),
        tiles=sum(roi.tiles for _, roi in chosen),
        all_tiles=sum(sample.tiles for sample, _ in chosen),
        outside=outside,
        lost=tuple(sorted(lost)),
    )


def critical_structures(task: TaskRecord) -> tuple[str, ...]:
    """The names of those that a ROI must not lose a voxel of."""
    return tuple(name for name, structure in task.structures.items() if structure.critical)
