"""MONAI's resampling where axes stay axes, one axis at a time.

Spacingd and its inverse sample a volume at the points of another grid, by `grid_sample`, in float64: three coordinates
for each voxel, eight neighbours of each. Between grids that are not turned against each other the same is done by one
matrix along each axis (`bench.pipeline.resampling`), which here is what `grid_sample` makes of the unit vectors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bench.pipeline.bundle.transforms import monai_module
from bench.pipeline.resampling import AxisMap, resample

_STRAIGHT = 1e-9  # of an entry that would turn an axis, in voxels a voxel
_MODES = ("bilinear", "nearest")


@contextmanager
def axis_by_axis() -> Iterator[None]:
    """Have MONAI resample axis by axis in this process; what it notes of a volume stays its own affair.

    Its transforms make the object that samples themselves, and take none from outside: so its class is replaced here.
    """
    where = monai_module("transforms.spatial.functional")
    before = where.AffineTransform
    where.AffineTransform = _sampler
    try:
        yield
    finally:
        where.AffineTransform = before


def _sampler(**settings: Any) -> Any:
    """In the place of `AffineTransform`: what it gives where an axis is turned, and else the same by matrices."""
    theirs = monai_module("networks.layers").AffineTransform(**settings)
    usual = not settings["normalized"] and settings["reverse_indexing"] and theirs.mode in _MODES

    def sample(volume: Tensor, theta: Tensor, spatial_size: Tensor) -> Tensor:
        new = [int(n) for n in spatial_size]
        turning = theta[:3, :3] - theta[:3, :3].diag().diag()
        if not usual or volume.ndim != 5 or turning.abs().max() > _STRAIGHT:
            result: Tensor = theirs(volume, theta=theta, spatial_size=spatial_size)
            return result
        maps = [
            _axis(old, length, float(theta[axis, axis]), float(theta[axis, 3]), volume.dtype, _key(theirs))
            for axis, (old, length) in enumerate(zip(volume.shape[2:], new, strict=True))
        ]
        return torch.stack([resample(case, maps, "none") for case in volume])

    return sample


def _key(transform: Any) -> tuple[str, str, bool]:
    return str(transform.mode), str(transform.padding_mode), bool(transform.align_corners)


@lru_cache(maxsize=256)
def _axis(
    old: int, new: int, scale: float, offset: float, dtype: torch.dtype, settings: tuple[str, str, bool]
) -> AxisMap:
    """New voxel i lies at old voxel ``scale i + offset``; by MONAI's own class, of volumes of one voxel's thickness."""
    mode, padding, corners = settings
    if old == new and scale == 1 and offset == 0:
        return AxisMap(old, new)
    theta = torch.eye(4, dtype=torch.float64)
    theta[0, 0], theta[0, 3] = scale, offset
    transform = monai_module("networks.layers").AffineTransform(
        normalized=False, mode=mode, padding_mode=padding, align_corners=corners, reverse_indexing=True
    )
    units = torch.eye(old, dtype=dtype)[None, :, :, None, None].repeat(1, 1, 1, 2, 2)  # a channel for each
    sampled: Tensor = transform(units, theta=theta.to(dtype), spatial_size=(new, 2, 2))
    return AxisMap(old, new, sampled[0, :, :, 0, 0].T.double().numpy())
