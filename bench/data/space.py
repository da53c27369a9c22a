"""Where the voxels of a volume lie in the patient, which the affine of its file alone says.

The affine in force is nibabel's: the sform, else the qform, else one of the spacing in `pixdim` alone. `pixdim` is not
asked otherwise, so that a file has one spacing, whoever reads it.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import affines, orientations
from numpy.typing import NDArray

from bench.errors import InputError

TOLERANCE = 1e-5
"""How far two volumes may be apart and still lie on each other, as a share of the largest coordinate in mm.

nnU-Net's check of a data set compares spacing, origin and direction with ``numpy.allclose``, whose relative tolerance
this is. ITK allows 1e-6 of a voxel's side, and 1e-6 in the direction cosines, which the rounding of an origin to
float32 can exceed: NIfTI stores float32. So what either of the two takes is taken here, and what moves a voxel by a
hundredth of a millimetre within a metre is not.
"""

_AXES: Any = orientations  # its functions carry no types
_UNITS = {1: "metres", 3: "micrometres"}  # of lengths, by NIfTI's code; 0 says nothing, 2 is millimetres
_SHEAR = 1e-3  # cosine between two axes; rounded affines have some 1e-5


@dataclass(frozen=True)
class Space:
    """The grid of a volume: its sides in voxels, and the affine ``[4, 4]`` from voxels to mm, x to the right, y to the
    front, z up.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, nifti: Any, path: Path) -> "Space":
        """That of a 3-D nibabel image.

        Raises:
            InputError: the affine in `path` places no voxel, or lengths are not in mm.
        """
        affine = np.asarray(nifti.affine, np.float64)
        if not (np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3):
            raise InputError(
                f"{path}: its affine {written(affine)} has no inverse, so it places no voxel; correct the header"
            )
        unit = _UNITS.get(int(nifti.header["xyzt_units"]) & 7)
        if unit is not None:
            raise InputError(f"{path}: its lengths are in {unit}; convert affine and header to millimetres")
        return cls(tuple(nifti.shape), affine)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Lengths of a voxel's sides along the array's axes."""
        return spacing_of(self.affine)

    @property
    def axes(self) -> str:
        """Where each axis of the array leads, most nearly: ``LAS`` is to the left, to the front, up."""
        return "".join(_AXES.aff2axcodes(self.affine))

    @property
    def sheared(self) -> bool:
        """Whether the axes are not perpendicular to each other."""
        directions = self.affine[:3, :3] / self.spacing_mm
        return not np.allclose(directions.T @ directions, np.eye(3), atol=_SHEAR)

    def lies_on(self, other: "Space") -> bool:
        """Whether each voxel lies where the voxel of the same index of `other` lies, to within `TOLERANCE`."""
        largest = float(np.abs(_corners(other.shape) @ other.affine.T[:, :3]).max())
        return self.shape == other.shape and self.distance_mm(other) <= TOLERANCE * largest

    def distance_mm(self, other: "Space") -> float:
        """How far apart a voxel here and that of the same index of `other` are at most, along x, y or z."""
        return float(np.abs(_corners(self.shape) @ (self.affine - other.affine).T[:, :3]).max())

    def turn_onto(self, other: "Space") -> NDArray[np.float64] | None:
        """The orders and signs of axes, as nibabel has them, that put a volume here onto the grid of `other`.

        None where it lies elsewhere.
        """
        turn = _AXES.io_orientation(np.linalg.inv(other.affine) @ self.affine)
        if np.isnan(turn).any():
            return None
        affine = self.affine @ _AXES.inv_ornt_aff(turn, self.shape)
        shape = tuple(self.shape[axis] for axis in np.argsort(turn[:, 0]))
        return turn if Space(shape, affine).lies_on(other) else None


def _corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Indices of a volume's eight corners, with a 1 behind each: ``[8, 4]``."""
    return np.array([[*corner, 1] for corner in product(*((-0.5, n - 0.5) for n in shape))])


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, ...]:
    """Lengths in mm of a voxel's sides along the array's axes, to the seven digits that float32 holds."""
    return tuple(float(f"{mm:.7g}") for mm in affines.voxel_sizes(affine))  # type: ignore[no-untyped-call]


def turned(voxels: NDArray[Any], turn: NDArray[np.float64]) -> NDArray[Any]:
    """A volume with its axes in another order and sign, C-contiguous; itself where nothing changes."""
    return np.ascontiguousarray(_AXES.apply_orientation(voxels, turn))


def written(affine: NDArray[np.float64]) -> str:
    """The three rows of an affine that say something, in one line."""
    return "[" + "; ".join(" ".join(f"{value:.7g}" for value in row) for row in affine[:3]) + "]"
