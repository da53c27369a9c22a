"""The accuracy of predictions, or their agreement with the baseline's, from the files on disk."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray

from bench.data.volume import MaskValues, read_mask, read_space
from bench.pipeline import tiles
from bench.pipeline.region import full_box
from models.task import Task
from reports.records.record import AGREEMENT, Case, Roi, Score, Settings, StructureRecord, StructureScore, TaskRecord

Labels = NDArray[np.uint8]
Points = NDArray[np.intp]  # [N, 3], indices of voxels

_BLOCK = 2**20  # voxels whose pairs of labels are counted at once, which keeps memory near 10 MB
_LEAST_DSC = 0.2  # below it a surface that is near is near by chance; FLARE's too


def dsc(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice similarity coefficient 2|A∩B| / (|A|+|B|); 1 where both are empty (Dice 1945)."""
    size = int(prediction.sum()) + int(truth.sum())
    return 1.0 if size == 0 else 2 * int((prediction & truth).sum()) / size


def structure_scores(
    prediction: Labels, truth: Labels, task: TaskRecord, spacing_mm: tuple[float, ...]
) -> dict[str, StructureScore]:
    """The scores of every structure of a case, by name; without values where the network cannot find it.

    Voxels whose truth is the task's `ignore` count nowhere. Both masks are gone through once for all structures: the
    voxels of each pair of labels give every DSC, and those at the edge of their label every surface.
    """
    if task.ignore is not None:
        prediction = np.where(truth == task.ignore, truth, prediction)
    pairs, edges = label_pairs(truth, prediction), [_Edges.of(mask) for mask in (prediction, truth)]

    def score_of(structure: StructureRecord) -> StructureScore:
        labels, tolerance = labels_of(structure, task), structure.nsd_tolerance_mm
        size = int(pairs[labels].sum()) + int(pairs[:, labels].sum())
        overlap = 2 * int(pairs[np.ix_(labels, labels)].sum()) / size if size else 1.0
        if tolerance is None:
            return StructureScore(dsc=overlap, absent=size == 0)
        if overlap == 1 or overlap < _LEAST_DSC:
            return StructureScore(dsc=overlap, nsd=float(overlap == 1), absent=size == 0)
        predicted, true = (own.surface(labels, task.ignore) for own in edges)
        return StructureScore(dsc=overlap, nsd=_nsd(predicted, true, spacing_mm, tolerance))

    return {name: score_of(own) if own.predicted else StructureScore() for name, own in task.structures.items()}


def label_pairs(truth: Labels, prediction: Labels) -> NDArray[np.int64]:
    """The number of voxels with each label of the truth and each of the prediction: ``[256, 256]``."""
    pairs = np.zeros(256 * 256, np.int64)
    depth = max(1, _BLOCK // max(1, truth[0].size))
    for start in range(0, len(truth), depth):
        block = truth[start : start + depth].astype(np.uint16) * 256 + prediction[start : start + depth]
        pairs += np.bincount(block.ravel(), minlength=pairs.size)
    return pairs.reshape(256, 256)


def labels_of(structure: StructureRecord, task: TaskRecord) -> list[int]:
    """The labels of a structure in masks."""
    return list(structure.labels) or [label for label in range(1, 256) if label != task.ignore]


@dataclass(frozen=True)
class _Edges:
    """The voxels of a mask with one of their six neighbours in another label, or outside the volume.

    Attributes:
        padded: the mask with a voxel of background around it, flat; `shape`: of it with that.
        places: their indices into `padded`, by label.
    """

    padded: Labels
    shape: tuple[int, ...]
    places: list[NDArray[np.intp]]

    @classmethod
    def of(cls, mask: Labels) -> "_Edges":
        padded = np.pad(mask, 1)
        edge = np.zeros(padded.shape, np.bool_)
        inner = edge[1:-1, 1:-1, 1:-1]
        for axis in range(3):
            for start, stop in ((0, -2), (2, None)):
                beside = [slice(1, -1)] * 3
                beside[axis] = slice(start, stop)
                inner |= mask != padded[tuple(beside)]
        inner &= mask > 0
        places = np.flatnonzero(edge)
        labels = padded.ravel()[places]
        bounds = np.cumsum(np.bincount(labels, minlength=256))[:-1]
        return cls(padded.ravel(), padded.shape, np.split(places[np.argsort(labels, kind="stable")], bounds))

    def surface(self, labels: Sequence[int], ignore: int | None) -> Points:
        """The surface of all `labels` together; a neighbour that is ignored makes none."""
        places = np.concatenate([self.places[label] for label in labels])
        inside = np.zeros(256, np.bool_)
        inside[[*labels, *([] if ignore is None else [ignore])]] = True
        outer = np.zeros(len(places), np.bool_)
        for step in (1, self.shape[2], self.shape[1] * self.shape[2]):
            outer |= ~inside[self.padded[places + step]] | ~inside[self.padded[places - step]]
        return np.stack(np.unravel_index(places[outer], self.shape), axis=1)


def _nsd(predicted: Points, true: Points, spacing_mm: tuple[float, ...], tolerance_mm: float) -> float:
    """Normalised surface distance: the share of both surfaces within `tolerance_mm` of the other one.

    Nikolov et al. 2021, "Deep learning to achieve clinically applicable segmentation of head and neck anatomy". As in
    MONAI the surface is the voxels of the mask that have one of their six neighbours outside it, each counted once
    (theirs weighs pieces of surface by area); what lies outside the volume is outside the mask. Both empty is 1, one
    empty 0, and by FLARE's rule it is 0 where the DSC is below 0.2. It is 0, too, where masks that differ are left with
    no surface, as all their neighbours are ignored.

    Distances are by trees of the surfaces' voxels rather than by transforms of the box around both masks: as exact, and
    one stray voxel far away does not make them as costly as the volume.
    """
    if not len(predicted) and not len(true):
        return 0.0
    first = np.concatenate([predicted, true]).min(axis=0)
    a, b = ((points - first) * spacing_mm for points in (predicted, true))
    return (_within(a, b, tolerance_mm) + _within(b, a, tolerance_mm)) / (len(a) + len(b))


def _within(points: NDArray[np.floating], others: NDArray[np.floating], distance: float) -> int:
    # The bound is exclusive, and products of indices and spacings are rounded.
    distances, _ = scipy.spatial.KDTree(others).query(points, distance_upper_bound=distance * (1 + 1e-9))
    return int(np.isfinite(distances).sum())


def task_of(task: Task, labels: Sequence[int], classes: int) -> TaskRecord:
    """The record of a task whose network paints `labels` into masks, and tells `classes` of cases apart."""
    return TaskRecord(
        structures={
            name: StructureRecord(**asdict(structure), predicted=not set(structure.labels).isdisjoint(labels))
            for name, structure in task.structures.items()
        },
        classes=classes,
        class_names=task.classes,
        name=task.name,
        channels=task.channels,
        labels=task.labels,
        ignore=task.ignore,
        f1_target=task.f1_target,
        sources=task.sources,
    )


def score(
    case: Case,
    settings: Settings,
    task: TaskRecord,
    mask_values: Iterable[tuple[int, int]],
    prediction: Path,
    baseline: Path,
    subtype: int | None,
    baseline_subtype: int | None,
    roi: Roi | None = None,
) -> Score:
    """Compare a predicted mask with the truth, where there is one, and with the baseline's mask.

    Where the run is judged by agreement, the scores of the structures are those to the baseline's mask, and a mask of
    the truth is not read.

    Under `center-patch` only the patch is compared: nothing was predicted outside it, and what is cut off at its sides
    counts as surface there. A label that the network has no class for counts in the structures that hold it beside
    others, and nowhere else. Voxels of the truth outside the boxes of `roi` are counted whatever the network finds, and
    those that differ from the baseline's wherever they lie, ignored ones too.
    """
    region, space = compared_box(case, settings), read_space(Path(case.image))
    own = MaskValues.of(task)
    labels, reference = (read_mask(path, space, own)[region] for path in (prediction, baseline))
    structures = {name: StructureScore() for name in task.structures}
    if settings.accuracy == AGREEMENT:
        structures = structure_scores(labels, reference, task, case.spacing_mm)
    elif case.mask is not None:
        truth = read_mask(Path(case.mask), space, MaskValues.of(task, mask_values))
        structures = structure_scores(labels, truth[region], task, case.spacing_mm)
        if roi is not None:
            rest = outside_of(truth, roi)
            outside = label_pairs(rest, rest).diagonal()
            lost = {name: int(outside[labels_of(each, task)].sum()) for name, each in task.structures.items()}
            structures = {name: replace(scores, outside=lost[name]) for name, scores in structures.items()}
    return Score(
        case=case.name,
        structures=structures,
        subtype=subtype,
        baseline_subtype=baseline_subtype,
        voxels=labels.size,
        differing_voxels=int((labels != reference).sum()),
    )


def outside_of(truth: Labels, roi: Roi) -> Labels:
    """The labels outside all boxes of `roi`; 0 within them."""
    rest = truth.copy()
    for x0, x1, y0, y1, z0, z1 in roi.boxes:
        rest[x0:x1, y0:y1, z0:z1] = 0
    return rest


def disagreement(case: Case, task: TaskRecord, mask_path: Path, other_path: Path) -> tuple[int, int]:
    """Voxels of a case, and how many of them two masks label differently."""
    space, values = read_space(Path(case.image)), MaskValues.of(task)
    a, b = read_mask(mask_path, space, values), read_mask(other_path, space, values)
    return a.size, int((a != b).sum())


def compared_box(case: Case, settings: Settings) -> tiles.Box:
    """The part of a case that is compared: under `center-patch` what was predicted, else all of it."""
    if settings.protocol == "center-patch":
        return tiles.covered(tiles.center_patch(tiles.triple(case.shape), settings.tile))
    return full_box(case.shape)
