"""The accuracy of predictions, from the files on disk."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.pipeline import tiles
from bench.pipeline.volume import read_mask
from reports.record import LESION, Case, Score, Settings


def dsc(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice similarity coefficient 2|A∩B| / (|A|+|B|); 1 where both are empty (Dice 1945)."""
    size = int(prediction.sum()) + int(truth.sum())
    return 1.0 if size == 0 else 2 * int((prediction & truth).sum()) / size


def score(
    case: Case,
    settings: Settings,
    prediction: Path,
    baseline: Path,
    subtype: int | None,
    baseline_subtype: int | None,
    finds_lesions: bool = True,
) -> Score:
    """Compare a predicted mask with the truth, where there is one, and with the baseline's mask.

    Under `center-patch` only the patch is compared: nothing was predicted outside it. Where the network has no
    class for them, lesions count as a part of the whole pancreas, and nowhere else.
    """
    region = _region(case, settings)
    labels, reference = (read_mask(path, case.shape)[region] for path in (prediction, baseline))
    whole = lesion = None
    if case.mask is not None:
        truth = read_mask(Path(case.mask), case.shape)[region]
        whole = dsc(labels > 0, truth > 0)
        lesion = dsc(labels == LESION, truth == LESION) if finds_lesions else None
    differing = int((labels != reference).sum())
    return Score(case.name, whole, lesion, subtype, baseline_subtype, labels.size, differing)


def disagreement(case: Case, one: Path, other: Path) -> tuple[int, int]:
    """Voxels of a case, and how many of them two masks label differently."""
    a, b = read_mask(one, case.shape), read_mask(other, case.shape)
    return a.size, int((a != b).sum())


def _region(case: Case, settings: Settings) -> tiles.Box:
    x, y, z = case.shape
    if settings.protocol == "center-patch":
        return tiles.covered(tiles.center_patch((x, y, z), settings.tile))
    return slice(0, x), slice(0, y), slice(0, z)
