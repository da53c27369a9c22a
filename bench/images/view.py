"""The part of a case that is shown, and how finely: labels and what is around them, in a bounded number of voxels."""

from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray

from bench.data.space import Space

Voxel = TypeVar("Voxel", bound=np.generic)

MARGIN_MM = 15.0  # around the labels
MOST_VOXELS = 2**21  # a pancreas with its margin at the resolution of a CT; some 2 MiB in a page
ADDED, REMOVED, RELABELLED = 1, 2, 3
"""What became of a voxel: background for the baseline alone, for the variant alone, or another label for each."""


@dataclass(frozen=True)
class View:
    """A box of a volume's voxels, of which blocks of `factors` voxels become one.

    Attributes:
        start: first voxel of the box along each axis; `stop`: the one after its last.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    factors: tuple[int, ...]

    @classmethod
    def of(cls, space: Space, labelled: NDArray[np.bool_], most_voxels: int = MOST_VOXELS) -> "View":
        """Around the voxels that are `labelled`, or the whole volume where none is.

        Where that is more than `most_voxels`, the axis with the finest voxels is made coarser, until it is not.
        """
        start, stop = [0] * 3, list(space.shape)
        for axis in range(3) if labelled.any() else ():
            others = tuple(other for other in range(3) if other != axis)
            along = np.flatnonzero(labelled.any(axis=others))
            margin = round(MARGIN_MM / space.spacing_mm[axis])
            start[axis] = max(0, int(along[0]) - margin)
            stop[axis] = min(space.shape[axis], int(along[-1]) + 1 + margin)
        sides, factors = np.subtract(stop, start), np.ones(3, np.int64)
        while np.prod(-(-sides // factors)) > most_voxels:
            factors[np.argmin(np.where(factors < sides, factors * space.spacing_mm, np.inf))] += 1
        return cls(tuple(start), tuple(stop), tuple(map(int, factors)))

    @property
    def coarser(self) -> bool:
        """Whether it has fewer voxels than the file has there."""
        return max(self.factors) > 1

    def affine(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """That of the view in a volume of `affine`: a block lies at the middle of its voxels."""
        middle = np.add(self.start, (np.array(self.factors) - 1) / 2)
        step = np.diag([*self.factors, 1.0])
        step[:3, 3] = middle
        result: NDArray[np.float64] = affine @ step
        return result

    def mean(self, intensities: NDArray[np.float32]) -> NDArray[np.float32]:
        """An image in the view: of each block its mean."""
        means: NDArray[np.float32] = self._blocks(intensities).mean(axis=(1, 3, 5), dtype=np.float32)
        return means

    def middle(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels in the view: of each block that at its middle."""
        x, y, z = (factor // 2 for factor in self.factors)
        return self._blocks(labels)[:, x, :, y, :, z]

    def largest(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels in the view: of each block the largest, so that none is lost in a block of background."""
        largest: NDArray[np.uint8] = self._blocks(labels).max(axis=(1, 3, 5))
        return largest

    def _blocks(self, voxels: NDArray[Voxel]) -> NDArray[Voxel]:
        """``[X, x, Y, y, Z, z]``; what blocks at the end lack is filled with the last voxel."""
        box = voxels[tuple(slice(*ends) for ends in zip(self.start, self.stop, strict=True))]
        lacking = [(0, -side % factor) for side, factor in zip(box.shape, self.factors, strict=True)]
        box = np.pad(box, lacking, mode="edge") if self.coarser else box
        pairs = [(side // factor, factor) for side, factor in zip(box.shape, self.factors, strict=True)]
        return box.reshape(sum(pairs, ()))


def difference(baseline: NDArray[np.uint8], variant: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`ADDED`, `REMOVED` or `RELABELLED` where two masks differ; 0 elsewhere."""
    kinds = np.where(baseline == 0, ADDED, np.where(variant == 0, REMOVED, RELABELLED))
    return np.where(baseline == variant, 0, kinds).astype(np.uint8)


def focus(masks: list[NDArray[np.uint8]]) -> tuple[int, ...]:
    """A voxel in the middle of the largest connected piece of the first of `masks` that is not empty.

    The middle of the volume where all are.
    """
    for mask in masks:
        pieces, count = scipy.ndimage.label(mask, np.ones((3, 3, 3)))
        if count:
            sizes = np.bincount(pieces.ravel())
            voxels = np.argwhere(pieces == 1 + int(np.argmax(sizes[1:])))
            nearest = np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))
            return tuple(map(int, voxels[nearest]))
    return tuple(side // 2 for side in masks[0].shape)


def any_label(masks: list[NDArray[np.uint8]]) -> NDArray[np.bool_]:
    """Voxels that are labelled in one of `masks`."""
    return reduce(np.logical_or, [mask > 0 for mask in masks])
