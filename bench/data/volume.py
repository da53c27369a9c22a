"""NIfTI volumes as read from disk: axes as stored, scaled values, checked before use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bench.data import compression
from bench.data.voxels import all_finite, read_voxels, scaled_blocks
from bench.errors import InputError

LABELS = (0, 1, 2)  # background, pancreas, lesion
# Masks are often stored as floats such as 1.0000152587890625; anything further from an integer is no label.
LABEL_TOLERANCE = 0.01

# nibabel and the layers below it raise these for files that are cut short or are something else.
_UNREADABLE: tuple[type[Exception], ...] = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    *compression.ERRORS,
)


@dataclass(frozen=True)
class Volume:
    """An image in memory.

    Attributes:
        intensities: HU, float32, axes as stored in the file (x, y, z for NIfTI), C-contiguous.
        image: the nibabel image it came from; its header and affine go into the predicted mask.
    """

    intensities: NDArray[np.float32]
    image: Any


def read_image(path: Path) -> Volume:
    """Read a 3-D image with its slope and intercept applied.

    Raises:
        InputError: missing, damaged, not 3-D, empty or with values that are not finite.
    """
    image = read_header(path)
    with _told(path):
        intensities = read_voxels(image)
    if not all_finite(image, intensities):
        raise InputError(f"{path}: the image has voxels that are NaN or infinite; replace them by real intensities")
    return Volume(intensities, image)


def read_header(path: Path) -> Any:
    """Open a 3-D image with nibabel; its voxels are not read.

    Raises:
        InputError: missing, damaged, not 3-D or empty.
    """
    image = _open(path)
    if len(image.shape) != 3 or 0 in image.shape:
        shape = " x ".join(map(str, image.shape))
        raise InputError(f"{path}: the image is {len(image.shape)}-D ({shape}), not 3-D; save a single volume")
    return image


def read_mask(path: Path, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """Read a label volume, rounding stored floats to labels.

    Raises:
        InputError: missing, damaged, of another shape than `shape`, or with a value that is no known label.
    """
    image = _open(path)
    if shape is not None and image.shape != shape:
        raise InputError(
            f"{path}: the mask is {_by(image.shape)}, its image {_by(shape)}; resample the mask onto its image's grid"
        )
    labels, unknown = np.empty(image.shape, np.uint8), [np.empty(0)]
    with _told(path):
        for block, values in scaled_blocks(image):
            rounded = np.rint(values)
            wrong = ~(np.abs(values - rounded) <= LABEL_TOLERANCE) | (rounded < LABELS[0]) | (rounded > LABELS[-1])
            unknown.append(values[wrong])
            rounded[wrong] = 0
            labels[block] = rounded
    found = np.concatenate(unknown)
    if found.size:
        raise InputError(
            f"{path}: unknown label {found[0]:g} in {found.size} voxels; "
            "known are 0 background, 1 pancreas, 2 lesion: relabel the mask"
        )
    return labels


def _open(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return nib.load(path)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable NIfTI file ({_reason(error)}); export it again") from None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise InputError(f"{path}: damaged or cut short ({_reason(error)}); copy or export it again") from None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
