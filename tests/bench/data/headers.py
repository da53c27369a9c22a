"""NIfTI files with any header, also one that no writer would give a volume."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

AFFINE = np.array([[-0.8, 0, 0, 30], [0, -0.7, 0, -12], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
SHAPE = (6, 7, 5)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, **fields: Any) -> Path:
    """Write `voxels` with `affine` as sform; `fields` are of the header, and nothing brings them into line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, None)
    rows = dict(zip(("srow_x", "srow_y", "srow_z"), affine, strict=False))
    spacing = np.nan_to_num(np.linalg.norm(affine[:3, :3], axis=0), posinf=1)
    for name, value in {"sform_code": 2, "pixdim": pixdim(*spacing), **rows, **fields}.items():
        image.header[name] = value
    image.update_header = lambda: None
    nib.save(image, path)
    return path


def pixdim(*spacing: float) -> np.ndarray:
    """The field of that name."""
    return np.array([1, *spacing, 1, 0, 0, 0], np.float32)


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)


def truth(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Labels that no turn leaves as they are."""
    labels = np.zeros(shape, np.uint8)
    labels[1:4, 2:6, 1:3], labels[1, 3, 1] = 1, 2
    return labels
