"""The accuracy of predictions, from the files on disk."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from bench.data.volume import MaskValues, read_mask, read_space
from bench.pipeline import tiles
from bench.pipeline.region import full_box
from models.task import Task
from reports.records.record import Case, Roi, Score, Settings, StructureRecord, StructureScore, TaskRecord

_LEAST_DSC = 0.2  # below it a surface that is near is near by chance; FLARE's too


def dsc(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice similarity coefficient 2|A∩B| / (|A|+|B|); 1 where both are empty (Dice 1945)."""
    size = int(prediction.sum()) + int(truth.sum())
    return 1.0 if size == 0 else 2 * int((prediction & truth).sum()) / size


def nsd(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing_mm: tuple[float, ...], tolerance_mm: float
) -> float:
    """Normalised surface distance: the share of both surfaces within `tolerance_mm` of the other one.

    Nikolov et al. 2021, "Deep learning to achieve clinically applicable segmentation of head and neck anatomy". As in
    MONAI the surface is the voxels of the mask that have one of their six neighbours outside it, each counted once
    (theirs weighs pieces of surface by area); what lies outside the volume is outside the mask. Both empty is 1, one
    empty 0, and by FLARE's rule it is 0 where the DSC is below 0.2.

    Distances are by trees of the surfaces' voxels rather than by transforms of the box around both masks: as exact, and
    one stray voxel far away does not make them as costly as the volume.
    """
    overlap = dsc(prediction, truth)
    if overlap in (0.0, 1.0) or overlap < _LEAST_DSC:
        return float(overlap == 1)
    (box,) = ndimage.find_objects((prediction | truth).view(np.uint8))
    predicted, true = (_surface(mask[box]) * spacing_mm for mask in (prediction, truth))
    near = _within(predicted, true, tolerance_mm) + _within(true, predicted, tolerance_mm)
    return near / (len(predicted) + len(true))


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices ``[N, 3]`` of the voxels at the surface."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def _within(points: NDArray[np.floating], others: NDArray[np.floating], distance: float) -> int:
    # The bound is exclusive, and products of indices and spacings are rounded.
    distances, _ = KDTree(others).query(points, distance_upper_bound=distance * (1 + 1e-9))
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

    Under `center-patch` only the patch is compared: nothing was predicted outside it, and what is cut off at its sides
    counts as surface there. Where the network has no class for lesions, they count as a part of the whole pancreas, and
    nowhere else. Voxels of the truth outside the boxes of `roi` are counted whatever the network finds.
    """
    region, space = _region(case, settings), read_space(Path(case.image))
    own = MaskValues.of(task)
    labels, reference = (read_mask(path, space, own)[region] for path in (prediction, baseline))
    structures = {name: StructureScore() for name in task.structures}
    if case.mask is not None:
        truth = read_mask(Path(case.mask), space, MaskValues.of(task, mask_values))
        outside = None if roi is None else outside_of(truth, roi)
        truth = truth[region]
        for name, structure in task.structures.items():
            agreement = _agreement(case, structure, labels, truth) if structure.predicted else StructureScore()
            lost = None if outside is None else int(select(outside, structure).sum())
            structures[name] = replace(agreement, outside=lost)
    return Score(
        case=case.name,
        structures=structures,
        subtype=subtype,
        baseline_subtype=baseline_subtype,
        voxels=labels.size,
        differing_voxels=int((labels != reference).sum()),
    )


def select(mask: NDArray[np.uint8], structure: StructureRecord) -> NDArray[np.bool_]:
    """The voxels of a structure."""
    return np.isin(mask, structure.labels) if structure.labels else mask > 0


def outside_of(truth: NDArray[np.uint8], roi: Roi) -> NDArray[np.uint8]:
    """The labels outside all boxes of `roi`; 0 within them."""
    rest = truth.copy()
    for x0, x1, y0, y1, z0, z1 in roi.boxes:
        rest[x0:x1, y0:y1, z0:z1] = 0
    return rest


def _agreement(
    case: Case, structure: StructureRecord, labels: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> StructureScore:
    predicted, true = select(labels, structure), select(truth, structure)
    tolerance = structure.nsd_tolerance_mm
    surface = None if tolerance is None else nsd(predicted, true, case.spacing_mm, tolerance)
    return StructureScore(dsc=dsc(predicted, true), nsd=surface)


def disagreement(case: Case, task: TaskRecord, mask_path: Path, other_path: Path) -> tuple[int, int]:
    """Voxels of a case, and how many of them two masks label differently."""
    space, values = read_space(Path(case.image)), MaskValues.of(task)
    a, b = read_mask(mask_path, space, values), read_mask(other_path, space, values)
    return a.size, int((a != b).sum())


def _region(case: Case, settings: Settings) -> tiles.Box:
    if settings.protocol == "center-patch":
        return tiles.covered(tiles.center_patch(tiles.triple(case.shape), settings.tile))
    return full_box(case.shape)
