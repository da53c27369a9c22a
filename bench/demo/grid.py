"""The voxel grid a case is drawn on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # [x, y, z], or open along the axes it does not depend on
Mask = NDArray[np.bool_]  # [x, y, z]

NOISE_REACH = 2  # knots drawn beyond either end, so that smooth noise does not fade at the border


@dataclass(frozen=True)
class Grid:
    """Voxel counts and spacing (mm) along x (right to left), y (front to back) and z (bottom to top).

    Organs are placed in a frame, the anatomy around the pancreas: the volume itself, or, where it shows more, a box of
    ``frame`` mm in it; ``origin`` is the first voxel's place in mm from the frame's corner.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    frame: tuple[float, float, float] | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def extent(self) -> NDArray[np.float64]:
        """The frame's size along x, y and z in mm."""
        return np.multiply(self.shape, self.spacing, dtype=np.float64) if self.frame is None else np.array(self.frame)

    def axes(self) -> tuple[Field, Field, Field]:
        """Voxel centres in mm as open arrays ``[X, 1, 1]``, ``[1, Y, 1]`` and ``[1, 1, Z]``."""
        x, y, z = (
            (np.arange(count, dtype=np.float32) * np.float32(step) + np.float32(first)).astype(np.float32)
            for count, step, first in zip(self.shape, self.spacing, self.origin, strict=True)
        )
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def box(self, centre: Sequence[float], semi_axes: Sequence[float]) -> tuple[slice, slice, slice]:
        """The voxels within ``semi_axes`` (mm) of ``centre`` (mm) along each axis, as slices."""
        x, y, z = (
            slice(*np.searchsorted(axis.ravel(), (middle - half, middle + half)).tolist())
            for axis, middle, half in zip(self.axes(), centre, semi_axes, strict=True)
        )
        return x, y, z

    def radius(
        self,
        centre: Sequence[float],
        semi_axes: Sequence[float],
        box: tuple[slice, slice, slice] = (slice(None), slice(None), slice(None)),
    ) -> Field:
        """Distance from ``centre`` (mm) in units of ``semi_axes`` (mm): an ellipsoid is where it is below 1.

        An infinite semi-axis makes the ellipsoid a cylinder along that axis. Only the voxels in ``box`` are returned.
        """
        squares = (
            ((axis.ravel()[side].reshape(-1, *[1] * (2 - at)) - np.float32(middle)) / np.float32(half)) ** 2
            for at, (axis, middle, half, side) in enumerate(zip(self.axes(), centre, semi_axes, box, strict=True))
        )
        total: Field = np.sqrt(sum(squares, np.zeros((1, 1, 1), np.float32)))
        return total

    def noise(self, rng: np.random.Generator, scale: float) -> Field:
        """Smooth noise ``[x, y, z]`` of mean 0 and variance 1 whose bumps are about ``scale`` mm apart."""
        weights: list[Field] = []
        lengths = np.multiply(self.shape, self.spacing, dtype=np.float64)
        for axis, first, length in zip(self.axes(), self.origin, lengths, strict=True):
            knots = np.arange(-NOISE_REACH, np.ceil(length / scale) + NOISE_REACH + 1, dtype=np.float32)
            places = (axis.reshape(-1, 1) - np.float32(first)) / np.float32(scale)
            bumps = np.exp(-0.5 * ((places - knots) / 0.6) ** 2)
            weights.append((bumps / np.linalg.norm(bumps, axis=1, keepdims=True)).astype(np.float32))
        field = rng.standard_normal([each.shape[1] for each in weights], dtype=np.float32)
        for each in weights:  # each pass turns the first axis into voxels and moves it last
            field = np.tensordot(field, each, axes=(0, 1))
        return field
