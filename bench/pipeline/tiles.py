"""Where the tiles of a volume lie, and how much each of their voxels weighs.

Both follow MONAI's ``sliding_window_inference(mode="gaussian", sigma_scale=0.125)``, so that the logits are equal.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SIGMA_SCALE = 0.125  # standard deviation of the Gaussian weight, as a share of the tile's side
SMALLEST_WEIGHT = 1e-3

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Tiles over a volume.

    Attributes:
        shape: the volume's, in voxels.
        tile: sides of a tile.
        before: voxels of padding in front of each axis that is shorter than the tile.
        starts: first voxel of every tile in the padded volume.
        padding, value: what intensities are padded with, as of `torch.nn.functional.pad`; labels with background.
    """

    shape: Shape
    tile: Shape
    before: Shape
    starts: tuple[Shape, ...]
    padding: str = "constant"
    value: float = 0.0

    @property
    def padded(self) -> Shape:
        return triple(max(n, side) for n, side in zip(self.shape, self.tile, strict=True))

    @property
    def boxes(self) -> list[Box]:
        """Every tile as slices of the padded volume."""
        return [_box(start, self.tile) for start in self.starts]

    @property
    def interior(self) -> Box:
        """The volume inside the padded volume."""
        return _box(self.before, self.shape)

    def pad(self, volume: Tensor) -> Tensor:
        """Pad intensities ``[C, D, H, W]``, or labels ``[D, H, W]``, to at least one tile, evenly on both sides."""
        pads: list[int] = []
        for n, padded, before in zip(self.shape, self.padded, self.before, strict=True):
            pads = [before, padded - n - before, *pads]  # functional.pad starts at the last axis
        if not any(pads):
            return volume
        return (
            functional.pad(volume, pads, self.padding, self.value) if volume.ndim == 4 else functional.pad(volume, pads)
        )


def sliding_window(shape: Shape, tile: Shape, overlap: float) -> Grid:
    """Lay tiles over the volume with a step of ``(1 - overlap) x tile``; the last of an axis ends at its border."""
    per_axis = []
    for n, side in zip(shape, tile, strict=True):
        n = max(n, side)
        count, step = along(n, side, overlap)
        per_axis.append([min(i * step, n - side) for i in range(count)])
    return grid_of(shape, tile, per_axis)


def expand_to_tiles(box: Box, shape: Shape, tile: Shape, overlap: float) -> Box:
    """`box` of a volume of `shape`, grown on both sides to all that its sliding window's tiles can cover.

    They are as many as before: where the volume goes on, they see it in the place of padding and of overlap.
    """
    sides = []
    for own, n, side in zip(box, shape, tile, strict=True):
        count, step = along(max(own.stop - own.start, side), side, overlap)
        length = min(side + (count - 1) * step, n)
        start = min(max((own.start + own.stop - length) // 2, 0), n - length)
        sides.append(slice(start, start + length))
    x, y, z = sides
    return x, y, z


def grid_of(shape: Shape, tile: Shape, per_axis: Iterable[Iterable[int]]) -> Grid:
    """Tiles that start at the given voxels of each axis of the padded volume."""
    starts = tuple(triple(start) for start in itertools.product(*per_axis))
    return Grid(shape, tile, _before(shape, tile), starts)


def center_patch(shape: Shape, tile: Shape) -> Grid:
    """The one tile in the middle of the volume: the reference model's own protocol."""
    start = triple(max(n - side, 0) // 2 for n, side in zip(shape, tile, strict=True))
    return Grid(shape, tile, _before(shape, tile), (start,))


def covered(grid: Grid) -> Box:
    """The voxels of the volume between the first and the last tile's border: all that the protocol labels."""
    low = [min(s[axis] for s in grid.starts) - grid.before[axis] for axis in range(3)]
    high = [max(s[axis] for s in grid.starts) + grid.tile[axis] - grid.before[axis] for axis in range(3)]
    x, y, z = (slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, grid.shape, strict=True))
    return x, y, z


def without_overlap(grid: Grid) -> list[Box]:
    """As few tiles as cover the grid's padded volume: along each axis the grid's own where as few of them do."""
    per_axis = []
    for axis, (n, side) in enumerate(zip(grid.padded, grid.tile, strict=True)):
        starts = sorted({start[axis] for start in grid.starts})
        chosen = [starts[0]]
        while chosen[-1] + side < n:
            chosen.append(max(start for start in starts if start <= chosen[-1] + side))
        fewest = math.ceil(n / side)
        per_axis.append(chosen if len(chosen) == fewest else [min(i * side, n - side) for i in range(fewest)])
    return grid_of(grid.shape, grid.tile, per_axis).boxes


def gaussian_weights(tile: Shape) -> Tensor:
    """Weight of every voxel of a tile, ``[D, H, W]``, 1 at the centre."""
    weights = torch.ones(tile)
    for axis, side in enumerate(tile):
        at = torch.arange(-(side - 1) / 2, (side - 1) / 2 + 1)
        profile = torch.exp(at**2 / (-2 * (side * SIGMA_SCALE) ** 2))
        weights = weights * profile.reshape([-1 if a == axis else 1 for a in range(3)])
    return weights.clamp(min=max(float(weights.min()), SMALLEST_WEIGHT))


def along(n: int, side: int, overlap: float) -> tuple[int, int]:
    """Tiles along an axis of `n` voxels, at least `side`, and voxels from one to the next."""
    step = max(int(side * (1 - overlap)), 1)
    return math.ceil((n - side) / step) + 1, step


def _before(shape: Shape, tile: Shape) -> Shape:
    return triple(max(side - n, 0) // 2 for n, side in zip(shape, tile, strict=True))


def _box(start: Shape, sides: Shape) -> Box:
    x, y, z = (slice(a, a + n) for a, n in zip(start, sides, strict=True))
    return x, y, z


def triple(values: Iterable[int]) -> Shape:
    """Three numbers, one along each axis.

    Raises:
        ValueError: they are not three.
    """
    x, y, z = values
    return x, y, z
