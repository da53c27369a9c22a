"""Volumes in any format, by nibabel or SimpleITK."""

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from tests.bench.data.headers import AFFINE


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write ``[x, y, z]`` or ``[x, y, z, c]`` with `affine`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        nib.save(nib.Nifti1Image(voxels, affine), path)
        return path
    image = SimpleITK.GetImageFromArray(
        np.moveaxis(voxels.T, 0, -1) if voxels.ndim == 4 else voxels.T, voxels.ndim == 4
    )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetOrigin((np.diag([-1.0, -1, 1]) @ affine[:3, 3]).tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((np.diag([-1.0, -1, 1]) @ affine[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(path))
    return path
