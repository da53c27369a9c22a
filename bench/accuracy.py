"""The accuracy of predictions, from the files on disk."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from bench.data.volume import read_mask
from bench.pipeline import tiles
from bench.pipeline.region import full_box
from reports.records.record import LESION, Case, Roi, Score, Settings

WHOLE_TOLERANCE_MM, LESION_TOLERANCE_MM = 5.0, 2.0  # FLARE's
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


def score(
    case: Case,
    settings: Settings,
    prediction: Path,
    baseline: Path,
    subtype: int | None,
    baseline_subtype: int | None,
    finds_lesions: bool = True,
    roi: Roi | None = None,
) -> Score:
    """Compare a predicted mask with the truth, where there is one, and with the baseline's mask.

    Under `center-patch` only the patch is compared: nothing was predicted outside it, and what is cut off at its sides
    counts as surface there. Where the network has no class for them, lesions count as a part of the whole pancreas, and
    nowhere else. Voxels of the truth outside the boxes of `roi` are counted whatever the network finds.
    """
    region = _region(case, settings)
    labels, reference = (read_mask(path, case.shape)[region] for path in (prediction, baseline))
    whole: tuple[float | None, float | None] = (None, None)
    lesion = whole
    outside: tuple[int | None, int | None] = (None, None)
    if case.mask is not None:
        truth = read_mask(Path(case.mask), case.shape)
        if roi is not None:
            outside = outside_of(truth, roi)
        truth = truth[region]
        whole = _agreement(case, labels > 0, truth > 0, WHOLE_TOLERANCE_MM)
        if finds_lesions:
            lesion = _agreement(case, labels == LESION, truth == LESION, LESION_TOLERANCE_MM)
    differing = int((labels != reference).sum())
    return Score(
        case.name, whole[0], lesion[0], subtype, baseline_subtype, labels.size, differing, whole[1], lesion[1],
        *outside,
    )  # fmt: skip


def outside_of(truth: NDArray[np.uint8], roi: Roi) -> tuple[int, int]:
    """Voxels of label > 0, and of label 2, outside all boxes of `roi`."""
    rest = truth.copy()
    for x0, x1, y0, y1, z0, z1 in roi.boxes:
        rest[x0:x1, y0:y1, z0:z1] = 0
    return int((rest > 0).sum()), int((rest == LESION).sum())


def _agreement(
    case: Case, prediction: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance_mm: float
) -> tuple[float | None, float | None]:
    return dsc(prediction, truth), nsd(prediction, truth, case.spacing_mm, tolerance_mm)


def disagreement(case: Case, mask_path: Path, other_path: Path) -> tuple[int, int]:
    """Voxels of a case, and how many of them two masks label differently."""
    a, b = read_mask(mask_path, case.shape), read_mask(other_path, case.shape)
    return a.size, int((a != b).sum())


def _region(case: Case, settings: Settings) -> tiles.Box:
    if settings.protocol == "center-patch":
        return tiles.covered(tiles.center_patch(tiles.triple(case.shape), settings.tile))
    return full_box(case.shape)
