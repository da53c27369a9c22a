"""The part of a volume that the network is run on, and boxes around pieces of foreground."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.pipeline.tiles import Box
from reports.records.record import Roi


@dataclass(frozen=True)
class Region:
    """What a strategy chose.

    Attributes:
        box: of the image; it is prepared and tiled like a volume of its own.
        kept: boxes of the image within `box`: every tile that reaches into one of them is run, and what lies outside
            all of them is background.
        fallback: the strategy found nothing or was unsure, and took all of the volume.
        batches, tiles: forward passes, and tiles in them, that it took to choose; `reused` of these tiles are tiles
            of the grid as well and are not run again.
    """

    box: Box
    kept: tuple[Box, ...]
    fallback: bool = False
    batches: int = 0
    tiles: int = 0
    reused: int = 0

    @classmethod
    def of(cls, box: Box) -> "Region":
        """This box as a whole."""
        return cls(box, (box,))

    def grown(self, box: Box) -> "Region":
        """All of `box`, chosen at the same cost."""
        return replace(self, box=box, kept=(box,))

    @property
    def corner(self) -> tuple[int, ...]:
        """The first voxel of `box`."""
        return tuple(side.start for side in self.box)

    def record(self) -> Roi:
        """For the record."""
        boxes = tuple(tuple(int(at) for side in box for at in (side.start, side.stop)) for box in self.kept)
        return Roi(boxes, self.fallback, self.batches, self.tiles, self.reused)


@dataclass(frozen=True)
class Geometry:
    """What brings the labels of a region back onto the grid of its image.

    Attributes:
        nifti: the nibabel image; its header and affine go into the mask.
        region: the part of the image that the network is run on.
        properties: of the `bench.data.volume.Volume`.
    """

    nifti: Any
    region: Region
    properties: Mapping[str, Any] = field(default_factory=dict)


def full_box(shape: tuple[int, ...]) -> Box:
    """All of a volume."""
    x, y, z = (slice(0, n) for n in shape)
    return x, y, z


@dataclass(frozen=True)
class Component:
    """A connected piece of foreground: the smallest box around it, and its volume in mL."""

    box: Box
    volume_ml: float


def components(foreground: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> list[Component]:
    """The pieces of ``[D, H, W]`` that hang together by their voxels' sides, the largest first."""
    from scipy import ndimage  # takes a tenth of a worker's start, and few ask for pieces

    labelled, _ = ndimage.label(foreground)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    sizes = np.bincount(labelled.ravel())[1:]
    pieces = [Component(box, int(n) * voxel_ml) for box, n in zip(ndimage.find_objects(labelled), sizes, strict=True)]
    return sorted(pieces, key=lambda piece: -piece.volume_ml)


def widened(box: Box, margin: tuple[int, ...], shape: tuple[int, ...], factor: tuple[int, ...] = (1, 1, 1)) -> Box:
    """`box` of a volume that is `factor` times coarser, as a box of one of `shape`, plus a margin in its voxels."""
    x, y, z = (
        slice(max(side.start * f - m, 0), min(side.stop * f + m, n))
        for side, m, n, f in zip(box, margin, shape, factor, strict=True)
    )
    return x, y, z


def shifted(box: Box, by: tuple[int, ...]) -> Box:
    """`box`, so many voxels further along each axis."""
    x, y, z = (slice(side.start + n, side.stop + n) for side, n in zip(box, by, strict=True))
    return x, y, z


def around(boxes: list[Box]) -> Box:
    """The smallest box that holds all of these."""
    x, y, z = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))
    return x, y, z


def overlap(box: Box, other: Box) -> bool:
    """Whether two boxes have a voxel in common."""
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(box, other, strict=True))
