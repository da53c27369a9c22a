"""Slices to a grid, by their positions alone: neither their numbers nor the order of their files say where they lie.

Places are DICOM's, x to the left and y to the back, in mm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR = 0.1  # of the distance between slices: how far one may lie from its place on the grid
SAME = 0.01  # likewise: nearer ones lie at the same place
_SAME_MM = 1e-3  # likewise; microscopes aside, no slices are nearer
SAME_DIRECTION = 1e-4  # in a cosine: half a tenth of a millimetre at the far end of a slice
_UNIT = 1e-2  # cosines of three digits are rounded by some 1e-3
_TILTED = 0.1  # degrees


class GeometryError(ValueError):
    """Slices that are no grid. The message says what is wrong, and after a semicolon what to do."""


@dataclass(frozen=True)
class Stack:
    """Slices in their order along the normal of their planes.

    Attributes:
        order: of the slices as they were given.
        affine: ``[4, 4]`` from column, row and slice to mm, as DICOM has them. Its third axis leads from slice to slice
            and is not perpendicular to the others where the gantry was tilted.
        apart: mm between slices, along the normal.
        tilt: degrees between the third axis and the normal.
    """

    order: tuple[int, ...]
    affine: NDArray[np.float64]
    apart: float
    tilt: float

    @property
    def tilted(self) -> bool:
        return self.tilt > _TILTED


def stack(
    positions: NDArray[np.float64], cosines: Sequence[float], spacing: Sequence[float], thickness: float | None
) -> Stack:
    """Stack slices of one orientation.

    `positions` ``[n, 3]`` are of the centres of their first voxels. The first three `cosines` are of the direction in
    which the column number grows (along a row), then those of the row number; `spacing` is DICOM's: between rows, then
    between columns. `thickness` is asked where there is a single slice.

    Raises:
        GeometryError: they are no grid.
    """
    row, column = directions(cosines)
    if not all(mm > 0 for mm in spacing):
        raise GeometryError(f"its PixelSpacing is {_mm(*spacing)} mm; export the series again")
    normal = np.cross(row, column)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    if len(order) == 1:
        if not thickness or thickness < 0:
            raise GeometryError("it is a single slice without a SliceThickness; give a whole series")
        step = normal * thickness
    else:
        _refuse_same(along[order])
        step = _step(positions[order], along[order])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * spacing[1], column * spacing[0], step
    affine[:3, 3] = positions[order[0]]
    tilt = math.degrees(math.atan2(float(np.linalg.norm(np.cross(step, normal))), float(step @ normal)))
    return Stack(tuple(order.tolist()), affine, float(step @ normal), tilt)


def directions(cosines: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors ``[3]`` along a row and along a column, of cosines that may be rounded.

    Raises:
        GeometryError: they are no perpendicular unit vectors, whatever the rounding.
    """
    row, column = np.reshape(cosines, (2, 3)).astype(np.float64)
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(row @ column))) > _UNIT:
        listed = " ".join(f"{value:.6g}" for value in cosines)
        raise GeometryError(
            f"its ImageOrientationPatient {listed} is no pair of perpendicular unit vectors; export the series again"
        )
    return row / lengths[0], column / lengths[1]


def _refuse_same(along: NDArray[np.float64]) -> None:
    """Refuse several slices at a place."""
    apart = np.diff(along)
    most = np.quantile(apart, 0.9, method="lower")  # where each place holds up to ten slices, one between places
    places = 1 + int((apart > max(SAME * most, _SAME_MM)).sum())
    if places < len(along):
        raise GeometryError(
            f"{len(along)} slices lie at {places} places, so it holds several images, such as phases, echoes or time "
            "points; put each into a folder of its own"
        )


def _step(places: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
    """From a slice to the next; `places` and `along` are sorted."""
    step: NDArray[np.float64] = (places[-1] - places[0]) / (len(places) - 1)
    apart = np.diff(along)
    typical = float(np.quantile(apart, 0.5, method="lower"))  # of two the nearer: a gap is no distance between slices
    off = np.linalg.norm(places - places[0] - np.arange(len(places))[:, None] * step, axis=1)
    if off.max() <= NEAR * typical:
        return step
    widest = int(np.abs(apart - typical).argmax())
    gap = f"{_mm(apart[widest])} mm between the slices at {_mm(*along[widest : widest + 2])} mm along their normal"
    if apart[widest] > (1 + NEAR) * typical:
        missing = round(float(apart[widest] / typical)) - 1
        what = f"{missing} slice{'s are' if missing > 1 else ' is'} missing" if missing else "they are uneven"
        raise GeometryError(f"{gap}, and {_mm(typical)} mm between others: {what}; copy or export the whole series")
    if apart[widest] < (1 - NEAR) * typical or np.ptp(apart) > NEAR * NEAR * typical:
        raise GeometryError(
            f"{gap}, and {_mm(typical)} mm between others: they are uneven; resample it onto an even grid, as NIfTI"
        )
    raise GeometryError(
        f"its slices lie up to {_mm(off.max())} mm beside a straight line; resample it onto an even grid, as NIfTI"
    )


def _mm(*values: float) -> str:
    return " and ".join(f"{value:.6g}" for value in values)
