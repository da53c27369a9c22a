"""Resampling of volumes, axis by axis.

Interpolation by splines or nearest neighbours on a grid that is not turned is linear, and separable: the volume is
multiplied by a matrix along each axis (Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal
Processing Magazine 16(6), 1999). The matrix of an axis is what the function whose results are wanted makes of the unit
vectors. So nothing of it is derived anew, neither prefilter nor borders, and what differs is the rounding of sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_NEGLIGIBLE = 1e-18  # of an entry: a spline's prefilter reaches all along the axis, and falls by 3.7 a voxel
_ROWS = 64  # of a matrix that are multiplied together, by the columns that they need
_SLICES = 8  # that are resampled together in their plane
_SUMS = 1e-6  # how far a mean's weights may be from 1 in sum, as of float32

Clip = Literal["none", "channel", "slice"]


@dataclass(frozen=True)
class Pairs:
    """New voxels that are means of neighbours: of the old voxel `first` and the one behind it.

    Attributes:
        first: does not fall along the axis.
        share: of the one behind it, from 0 to below 1.
    """

    first: NDArray[np.intp]
    share: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AxisMap:
    """How an axis is resampled.

    Attributes:
        old, new: its lengths in voxels.
        matrix: ``[new, old]``, float64; None where the axis stays as it is.
    """

    old: int
    new: int
    matrix: NDArray[np.float64] | None = None

    @cached_property
    def pairs(self) -> Pairs | None:
        """The one or two neighbours that each new voxel is a mean of; None where it is a sum of others too."""
        if self.matrix is None:
            return Pairs(np.arange(self.new), np.zeros(self.new))
        rows, used = np.arange(self.new), self.matrix != 0
        first, count = used.argmax(1), used.sum(1)
        share = np.where(count > 1, self.matrix[rows, np.minimum(first + 1, self.old - 1)], 0.0)
        sums = self.matrix[rows, first] + share
        means = bool((abs(sums - 1) <= _SUMS).all() and (self.matrix >= 0).all())
        neighbours = bool((count == 1 + (share > 0)).all() and (np.diff(first) >= 0).all())
        return Pairs(first, share) if means and neighbours else None

    @cached_property
    def chosen(self) -> NDArray[np.intp] | None:
        """The old voxel that each new one is; None where one is a mean of several, or the axis stays as it is."""
        if self.matrix is None or self.pairs is None or self.pairs.share.any():
            return None
        return self.pairs.first if (self.matrix.max(1) == 1).all() else None


def unchanged(length: int) -> AxisMap:
    """An axis that stays as it is."""
    return AxisMap(length, length)


@lru_cache(maxsize=256)
def spline(old: int, new: int, order: int) -> AxisMap:
    """As of `skimage.transform.resize` with ``mode="edge"`` and no anti-aliasing, which is `scipy.ndimage.zoom`."""
    from scipy import ndimage

    if old == new:
        return unchanged(new)
    factor = 1 / np.divide(old, new)
    columns = [ndimage.zoom(unit, factor, order=order, mode="nearest", grid_mode=True) for unit in np.eye(old)]
    return AxisMap(old, new, np.stack(columns, 1))


@lru_cache(maxsize=256)
def sampled(old: int, new: int, order: int) -> AxisMap:
    """As of `scipy.ndimage.map_coordinates` at the middles of the new voxels, with edges repeated."""
    from scipy import ndimage

    if old == new:
        return unchanged(new)
    at = float(old) / new * (np.arange(new) + 0.5) - 0.5
    columns = [ndimage.map_coordinates(unit, [at], order=order, mode="nearest") for unit in np.eye(old)]
    return AxisMap(old, new, np.stack(columns, 1))


@lru_cache(maxsize=256)
def interpolated(old: int, new: int, mode: str) -> AxisMap:
    """As of `torch.nn.functional.interpolate` along an axis, its `mode` linear, nearest or nearest-exact."""
    if old == new:
        return unchanged(new)
    columns = functional.interpolate(torch.eye(old)[None], size=new, mode=mode)[0]  # a channel for each unit vector
    return AxisMap(old, new, columns.T.double().numpy())


def resample(volume: Tensor, maps: Sequence[AxisMap], clip: Clip) -> Tensor:
    """Resample ``[C, D, H, W]`` along its last three axes, summing in float64, into its own dtype.

    Where each new voxel is one of the old, these are taken as they are. What splines overshoot is cut off at the least
    and largest value of the channel, or of each slice ``[H, W]`` before its channel is resampled along D.
    """
    for axis, each in enumerate(maps, 1):
        if each.chosen is not None:
            volume = volume.index_select(axis, torch.from_numpy(each.chosen).to(volume.device))
    maps = [unchanged(each.new) if each.chosen is not None else each for each in maps]
    if all(each.matrix is None for each in maps):
        return volume
    depth, *plane = maps
    out = volume.new_empty(len(volume), *(each.new for each in maps))
    bands = [_bands(each, volume.device) for each in plane]
    along_depth = _bands(depth, volume.device)
    for channel, target in zip(volume, out, strict=True):
        slices = channel.new_empty(depth.old, *(each.new for each in plane), dtype=torch.float64)
        for part, resampled in zip(channel.split(_SLICES), slices.split(_SLICES), strict=True):
            resampled.copy_(_in_plane(part.double(), *bands))
            if clip == "slice":
                resampled.clamp_(part.amin((1, 2), keepdim=True), part.amax((1, 2), keepdim=True))
        if not along_depth:
            target.copy_(slices)
        for rows, columns, matrix in along_depth:
            target[rows] = torch.tensordot(matrix, slices[columns], 1)
        if clip == "channel":  # bounds are values of the target's own dtype, so that rounding comes first or last alike
            target.clamp_(*channel.aminmax())
    return out


_Band = tuple[slice, slice, Tensor]  # rows of a matrix, the columns that they need, and what stands there


def _in_plane(slices: Tensor, along_height: list[_Band], along_width: list[_Band]) -> Tensor:
    if along_width:
        slices = torch.cat([slices[..., columns] @ matrix.T for _, columns, matrix in along_width], 2)
    if along_height:
        slices = torch.cat([matrix @ slices[:, columns] for _, columns, matrix in along_height], 1)
    return slices


def _bands(axis_map: AxisMap, device: torch.device) -> list[_Band]:
    """The matrix in parts; none where the axis stays as it is."""
    if axis_map.matrix is None:
        return []
    bands = []
    for start, stop in pairwise([*range(0, axis_map.new, _ROWS), axis_map.new]):
        used = np.flatnonzero(abs(axis_map.matrix[start:stop]).max(0) > _NEGLIGIBLE)
        columns = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)  # all beyond the old voxels: 0
        part = np.ascontiguousarray(axis_map.matrix[start:stop, columns])
        bands.append((slice(start, stop), columns, torch.from_numpy(part).to(device)))
    return bands
