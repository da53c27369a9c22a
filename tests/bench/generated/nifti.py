"""NIfTI files written byte by byte, so that what is in them does not come from the library that reads them."""

import gzip
import math
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ORIENTATIONS = tuple(product(permutations(range(3)), product((1, -1), repeat=3)))  # all 48
FORMS = ("sform", "qform", "both", "other qform", "none")


@dataclass(frozen=True)
class File:
    """What a file holds.

    Attributes:
        stored: voxels as they lie in the file, before slope and intercept, ``[X, Y, Z, ...]``.
        affine: the one in force.
        form: which of the header's fields say so, of FORMS.
        pixdim: the header's spacings, where they are not those of the affine.
    """

    stored: Array
    affine: Array
    slope: float = 1.0
    inter: float = 0.0
    form: str = "sform"
    pixdim: tuple[float, float, float] | None = None
    version: int = 1
    endian: str = "<"

    @property
    def values(self) -> Array:
        """Scaled voxels by the standard's own words, float64; a slope of 0 means none."""
        if self.slope == 0:
            return self.stored.astype(np.float64)
        return self.stored.astype(np.float64) * np.float64(np.float32(self.slope)) + np.float64(np.float32(self.inter))

    def header(self) -> Any:
        kind = nib.Nifti1Header if self.version == 1 else nib.Nifti2Header
        header = kind(endianness=self.endian)
        header.set_data_shape(self.stored.shape)
        header.set_data_dtype(self.stored.dtype.newbyteorder("="))
        if self.form in ("qform", "both"):
            header.set_qform(self.affine, 1)
        if self.form == "other qform":
            header.set_qform(np.diag([3.0, 4.0, 5.0, 1.0]), 1)
        header["pixdim"][1:4] = self.pixdim or spacing_of(self.affine)
        if self.form not in ("qform", "none"):
            header.set_sform(self.affine, 2)
        header["scl_slope"], header["scl_inter"] = self.slope, self.inter
        header["vox_offset"] = 352 if self.version == 1 else 544
        header["magic"] = b"n+1\0" if self.version == 1 else b"n+2\0\r\n\032\n"
        return header

    def as_read(self) -> "File":
        """With the affine that the header holds in float32, a quaternion's rounding included."""
        return replace(self, affine=np.asarray(self.header().get_best_affine(), np.float64))

    def content(self, header: Any = None) -> bytes:
        """The bytes of the file."""
        voxels = self.stored.astype(self.stored.dtype.newbyteorder(self.endian), copy=False).tobytes("F")
        return bytes((header or self.header()).binaryblock) + bytes(4) + voxels

    def write(self, path: Path, header: Any = None) -> None:
        put(path, self.content(header))


def put(path: Path, content: bytes) -> None:
    """Write a file, packed if its name says so."""
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)


def spacing_of(affine: Array) -> tuple[float, float, float]:
    """Millimetres from a voxel to the next along each axis of the array."""
    x, y, z = (float(side) for side in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def affine_of_none(spacing: tuple[float, float, float], shape: tuple[int, ...]) -> Array:
    """Where a volume lies whose header names no affine: to the left, front and top, its middle at the origin."""
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ [(n - 1) / 2 for n in shape]
    return affine


def draw_affine(draw: Random) -> Array:
    """One of the 48 orientations, oblique now and then, with a spacing and an origin."""
    order, signs = draw.choice(ORIENTATIONS)
    axes = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        axes[world, axis] = sign
    if draw.random() < 0.3:
        axes = _rotation(draw.uniform(-0.4, 0.4), draw.randrange(3)) @ axes
    affine = np.eye(4)
    affine[:3, :3] = axes * [round(draw.uniform(0.5, 3), draw.choice((0, 1, 3))) or 1.0 for _ in range(3)]
    affine[:3, 3] = [round(draw.uniform(-200, 200), 2) for _ in range(3)]
    return affine.astype(np.float32).astype(np.float64)


def _rotation(angle: float, axis: int) -> Array:
    a, b = (other for other in range(3) if other != axis)
    turn = np.eye(3)
    turn[[a, b], [a, b]], turn[a, b], turn[b, a] = math.cos(angle), -math.sin(angle), math.sin(angle)
    return turn


def turned(draw: Random, file: File) -> File:
    """The same voxels at the same places, axes in another order and of other signs."""
    order, signs = draw.choice(ORIENTATIONS)
    shape = file.stored.shape[:3]
    stored, to_old = file.stored.transpose(*order, *range(3, file.stored.ndim)), np.zeros((4, 4))
    to_old[3, 3] = 1
    for axis, (old, sign) in enumerate(zip(order, signs, strict=True)):
        to_old[old, axis] = sign
        if sign < 0:
            stored, to_old[old, 3] = np.flip(stored, axis), shape[old] - 1
    pixdim = file.pixdim and (file.pixdim[order[0]], file.pixdim[order[1]], file.pixdim[order[2]])
    return replace(file, stored=stored, affine=file.affine @ to_old, pixdim=pixdim)
