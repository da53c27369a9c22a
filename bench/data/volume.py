"""NIfTI volumes as read from disk: axes as stored, scaled values, checked before use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bench.data import compression
from bench.data.space import Space, spacing_of, turned, written
from bench.data.voxels import all_finite, read_voxels, scaled_blocks
from bench.errors import InputError

LABELS = (0, 1, 2)  # background, pancreas, lesion
_LABEL_NAMES = ("background", "pancreas", "lesion")
# Masks are often stored as floats such as 1.0000152587890625; anything further from an integer is no label.
LABEL_TOLERANCE = 0.01

# nibabel and the layers below it raise these for files that are cut short or are something else.
_UNREADABLE: tuple[type[Exception], ...] = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    *compression.ERRORS,
)


@dataclass(frozen=True)
class Volume:
    """An image in memory.

    Attributes:
        intensities: HU, float32, C-contiguous, axes as stored in the file (x, y, z) or as another reader gives them.
        nifti: the nibabel image it came from, 3-D; its header and affine go into the predicted mask.
        properties: what another reader notes about it, and what preprocessing adds; empty for `read_image`.
    """

    intensities: NDArray[np.float32]
    nifti: Any
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Lengths of a voxel's sides, axes as stored."""
        return spacing_of(self.nifti.affine)

    @property
    def space(self) -> Space:
        """Where its voxels lie, axes as stored.

        Raises:
            InputError: its affine cannot be used.
        """
        return Space.of(self.nifti, Path(self.nifti.get_filename()))

    def cropped(self, box: tuple[slice, slice, slice]) -> "Volume":
        """The part in `box`, as a view."""
        return replace(self, intensities=self.intensities[box])


def read_image(path: Path) -> Volume:
    """Read a 3-D image with its slope and intercept applied.

    Raises:
        InputError: missing, damaged, not 3-D, empty or with values that are not finite.
    """
    nifti = read_header(path)
    with _damage_reported(path):
        intensities = read_voxels(nifti)
    if not all_finite(nifti, intensities):
        raise InputError(f"{path}: the image has voxels that are NaN or infinite; replace them by real intensities")
    return Volume(intensities, nifti)


def read_header(path: Path) -> Any:
    """Open a 3-D image with nibabel; its voxels are not read.

    Raises:
        InputError: missing, damaged, not 3-D, empty, or of voxels that are no real numbers.
    """
    return _opened(path, "image")


def read_space(path: Path) -> Space:
    """Where the voxels of an image lie.

    Raises:
        InputError: as of `read_header`, or its affine cannot be used.
    """
    return Space.of(read_header(path), path)


def refuse_elsewhere(mask_path: Path, space: Space) -> None:
    """Refuse a mask that cannot be put onto the grid of its image's `space`; its voxels are not read.

    Raises:
        InputError: so it is.
    """
    _turn(mask_path, Space.of(_opened(mask_path, "mask"), mask_path), space)


def read_mask(path: Path, space: Space | None = None, values_to_labels: tuple[int, ...] = LABELS) -> NDArray[np.uint8]:
    """Read a label volume onto the grid of its image's `space`, rounding stored floats to labels.

    `values_to_labels` holds our label of each value that the file may have.

    Raises:
        InputError: missing, damaged, not 3-D, elsewhere than `space`, or with a value that is no known label.
    """
    nifti = _opened(path, "mask")
    turn = None if space is None else _turn(path, Space.of(nifti, path), space)
    with _damage_reported(path):
        labels, unknown = np.empty(nifti.shape, np.uint8), [np.empty(0)]
        for block, values in scaled_blocks(nifti):
            rounded = np.rint(values)
            wrong = ~(np.abs(values - rounded) <= LABEL_TOLERANCE) | (rounded < 0) | (rounded >= len(values_to_labels))
            unknown.append(values[wrong])
            rounded[wrong] = 0
            labels[block] = rounded
    if values_to_labels != LABELS:
        labels = np.array(values_to_labels, np.uint8)[labels]
    values = np.concatenate(unknown)
    if values.size:
        known = ", ".join(f"{value} {_LABEL_NAMES[label]}" for value, label in enumerate(values_to_labels))
        raise InputError(
            f"{path}: unknown label {values[0]:g} in {values.size} voxels; known are {known}: relabel the mask"
        )
    return labels if turn is None else turned(labels, turn)


def _turn(path: Path, mask: Space, image: Space) -> NDArray[np.float64]:
    """What puts the mask in `path` onto its image's grid."""
    if sorted(mask.shape) != sorted(image.shape):
        raise InputError(
            f"{path}: the mask is {_by(mask.shape)}, its image {_by(image.shape)}; "
            "resample the mask onto its image's grid"
        )
    turn = mask.turn_onto(image)
    if turn is None:
        raise InputError(
            f"{path}: the mask does not lie on its image: its affine is {written(mask.affine)}, the image's "
            f"{written(image.affine)}; resample the mask onto its image's grid, or correct the header that is wrong"
        )
    return turn


def _opened(path: Path, what: str) -> Any:
    """A volume of real numbers; axes of length 1 behind the third are left out."""
    nifti = _open(path)
    shape, dtype = nifti.shape, nifti.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if min(shape, default=0) < 1:
        raise InputError(f"{path}: the {what} has no voxels ({_by(shape)}); export it again")
    if len(shape) != 3:
        raise InputError(f"{path}: the {what} is {len(shape)}-D ({_by(nifti.shape)}), not 3-D; save a single volume")
    if dtype.kind not in "iuf":
        kind = "complex numbers" if dtype.kind == "c" else "colours" if dtype.names else f"of type {dtype}"
        raise InputError(f"{path}: its voxels are {kind}, not single real numbers; save a volume of these")
    if shape == nifti.shape:
        return nifti
    Space.of(nifti, path)  # nibabel decomposes the affine of a new image, and raises where that cannot be done
    return type(nifti)(nifti.dataobj.reshape(shape), nifti.affine, nifti.header, nifti.extra, nifti.file_map)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        nifti = nib.load(path)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable NIfTI file ({_reason(error)}); export it again") from None
    if not isinstance(nifti, nib.Nifti1Image):
        raise InputError(f"{path}: a {type(nifti).__name__}, not a NIfTI volume; export it again")
    return nifti


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise InputError(f"{path}: its voxels do not fit into memory; check the sides that its header says") from None
    except _UNREADABLE as error:
        raise InputError(f"{path}: damaged or cut short ({_reason(error)}); copy or export it again") from None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
