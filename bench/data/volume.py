"""Volumes as read from disk: axes as stored, scaled values, checked before use."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bench.data import compression
from bench.data.dicom.files import is_series
from bench.data.formats import Grid, format_of, load
from bench.data.space import Space, spacing_of, turned, written
from bench.data.voxels import (
    ChannelVoxels,
    StoredVoxels,
    all_finite,
    copy_as_stored,
    is_sendable,
    read_channels,
    read_stored_voxels,
    read_voxels,
    scaled_blocks,
)
from bench.errors import InputError
from models.errors import one_line, sides, some
from models.task import Task
from reports.formatting import count
from reports.records.record import TaskRecord

if TYPE_CHECKING:
    from torch import Tensor

# Masks are often stored as floats such as 1.0000152587890625; anything further from an integer is no label.
LABEL_TOLERANCE = 0.01
_MOST_NAMED = 12  # labels in a message
_NOT_FINITE = "the image has voxels that are NaN or infinite; replace them by real intensities"

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
class MaskValues:
    """What the values in masks mean.

    Attributes:
        labels: the label of the task that each value stands for.
        names: of the values, for messages.
    """

    labels: Mapping[int, int]
    names: Mapping[int, str]

    @classmethod
    def of(cls, task: Task | TaskRecord, pairs: Iterable[tuple[int, int]] = ()) -> "MaskValues":
        """Those of masks that hold the task's own labels, as all predictions do; or of `pairs` of value and label."""
        names = {value: name for name, value in task.labels.items()}
        names |= {} if task.ignore is None else {task.ignore: "ignore"}
        labels = dict(pairs) or {value: value for value in names}
        return cls(labels, {value: names[label] for value, label in labels.items()})

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Value and label; empty where no value stands for another label than itself."""
        pairs = tuple(sorted(self.labels.items()))
        return pairs if any(value != label for value, label in pairs) else ()

    def table(self) -> NDArray[np.int16]:
        """The label of each value from 0 to the largest; -1 where it is not known."""
        table = np.full(max(self.labels) + 1, -1, np.int16)
        table[list(self.labels)] = list(self.labels.values())
        return table


@dataclass(frozen=True)
class Volume:
    """The images of a case in memory.

    Attributes:
        intensities: ``[C, X, Y, Z]``, HU in CT, float32, C-contiguous, axes as stored in the file (x, y, z) or as
            another reader gives them; a tensor where they were scaled on a GPU (`bench.pipeline.preprocess`).
        nifti: the nibabel image of the first channel, 3-D; its header and affine go into the predicted mask.
        properties: what another reader notes about it, and what preprocessing adds; empty for `read_image`.
    """

    intensities: "NDArray[np.float32] | Tensor"
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
        return replace(self, intensities=self.intensities[(slice(None), *box)])


def read_image(paths: Sequence[Path]) -> Volume:
    """Read the 3-D image of each channel, or the only 4-D one, with slope and intercept applied.

    Raises:
        InputError: as of `open_channels`, with values that are not finite, or channels on other grids.
    """
    niftis = open_channels(paths)
    refuse_apart(paths, niftis)
    if len(niftis) > len(paths):
        return Volume(finite_voxels(paths[0], niftis[0].dataobj.whole), niftis[0])
    if len(niftis) == 1:  # read where it stays
        return Volume(finite_voxels(paths[0], niftis[0])[None], niftis[0])
    with damage_reported(paths[0]):
        intensities = np.empty((len(niftis), *niftis[0].shape), np.float32)
    for path, nifti, channel in zip(paths, niftis, intensities, strict=True):
        finite_voxels(path, nifti, channel)
    return Volume(intensities, niftis[0])


@dataclass(frozen=True)
class StoredVolume:
    """The images of a case as their files hold them.

    Attributes:
        nifti: as of a `Volume`.
        channels: with the file of each.
    """

    nifti: Any
    channels: tuple[tuple[Path, StoredVoxels], ...]


def read_stored(paths: Sequence[Path]) -> StoredVolume | None:
    """Read what `read_image` does and leave it unscaled; None where a file holds voxels that PyTorch cannot convert.

    Whether voxels are finite is only looked at by their type.

    Raises:
        InputError: as of `open_channels`, or channels on other grids.
    """
    niftis = open_channels(paths)
    refuse_apart(paths, niftis)
    files = [niftis[0].dataobj.whole] if len(niftis) > len(paths) else niftis
    if not all(map(is_sendable, files)):
        return None
    channels = list[tuple[Path, StoredVoxels]]()
    for path, nifti in zip(paths, files, strict=True):
        with damage_reported(path):
            channels += [(path, voxels) for voxels in read_stored_voxels(nifti)]
    return StoredVolume(niftis[0], tuple(channels))


def not_finite(path: Path) -> InputError:
    """The error of an image with a voxel that is NaN or infinite."""
    return InputError(f"{path}: {_NOT_FINITE}")


def read_as_stored(path: Path, nifti: Any, out: NDArray[np.float32]) -> None:
    """Put a 3-D image whose voxels need no scaling into `out`, ``[Z, Y, X]``: axes in the order of the file.

    Raises:
        InputError: its voxels cannot be read, or are not finite.
    """
    with damage_reported(path):
        copy_as_stored(nifti, out)
    if not all_finite(nifti, out):
        raise not_finite(path)


def finite_voxels(path: Path, nifti: Any, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    with damage_reported(path):
        voxels = read_voxels(nifti, out) if len(nifti.shape) == 3 else read_channels(nifti)
    if not all_finite(nifti, voxels):
        raise not_finite(path)
    return voxels


def open_channels(paths: Sequence[Path]) -> list[Any]:
    """The 3-D nibabel image of each channel: of each file, or of each part of the only one, ``[X, Y, Z, C]``.

    Voxels are not read.

    Raises:
        InputError: missing, damaged, not 3-D or 4-D, empty, of voxels that are no real numbers, or as of `Space.of`.
    """
    niftis = [_opened(path, "image", most_axes=4 if len(paths) == 1 else 3) for path in paths]
    if len(niftis[0].shape) == 3:
        return niftis
    return [_with_voxels(niftis[0], ChannelVoxels(niftis[0], channel)) for channel in range(niftis[0].shape[3])]


def refuse_apart(paths: Sequence[Path], niftis: Sequence[Any]) -> None:
    """Refuse channels of a case that do not lie on the grid of the first.

    Raises:
        InputError: so one does.
    """
    if len(paths) < 2:
        return
    first, *others = (Space.of(nifti, path) for path, nifti in zip(paths, niftis, strict=True))
    for path, space in zip(paths[1:], others, strict=True):
        if space.shape != first.shape:
            raise InputError(
                f"{path}: it is {sides(space.shape)} voxels, and {paths[0].name} {sides(first.shape)}; the channels of "
                "a case must lie on one grid: resample them"
            )
        if not space.lies_on(first):
            affines = f"its affine is {written(space.affine)}, that of {paths[0].name} {written(first.affine)}"
            raise InputError(f"{path}: {affines}; the channels of a case must lie on one grid: resample them")


def read_header(path: Path) -> Any:
    """Open a 3-D image with nibabel, or the first channel of a 4-D one; its voxels are not read.

    Raises:
        InputError: as of `open_channels`.
    """
    return open_channels((path,))[0]


def read_space(path: Path) -> Space:
    """Where the voxels of an image lie.

    Raises:
        InputError: as of `read_header`.
    """
    return Space.of(read_header(path), path)


def refuse_elsewhere(mask_path: Path, space: Space) -> None:
    """Refuse a mask that cannot be put onto the grid of its image's `space`; its voxels are not read.

    Raises:
        InputError: so it is.
    """
    _turn(mask_path, Space.of(_opened(mask_path, "mask", grid=_grid(space)), mask_path), space)


def read_mask(path: Path, space: Space | None, values: MaskValues) -> NDArray[np.uint8]:
    """Read a volume of labels onto the grid of its image's `space`, rounding stored floats to whole values.

    Raises:
        InputError: missing, damaged, not 3-D, elsewhere than `space`, or with a value that is no known label.
    """
    nifti = _opened(path, "mask", grid=_grid(space))
    turn = None if space is None else _turn(path, Space.of(nifti, path), space)
    with damage_reported(path):
        labels, unknown, table = np.empty(nifti.shape, np.uint8), [np.empty(0)], values.table()
        gaps, renamed = bool((table < 0).any()), bool(values.pairs)
        for block, stored in scaled_blocks(nifti):
            rounded = np.rint(stored)
            wrong = ~(np.abs(stored - rounded) <= LABEL_TOLERANCE) | (rounded < 0) | (rounded >= len(table))
            rounded[wrong] = 0
            if gaps or renamed:
                of_block = table[rounded.astype(np.intp)]
                wrong |= of_block < 0
                rounded = np.maximum(of_block, 0)
            unknown.append(stored[wrong])
            labels[block] = rounded
    others = np.concatenate(unknown)
    if others.size:
        known = some([f"{value} {name}" for value, name in sorted(values.names.items())], _MOST_NAMED)
        raise InputError(
            f"{path}: unknown label {others[0]:g} in {count(others.size, 'voxel')}; known are {known}: relabel the mask"
        )
    return labels if turn is None else turned(labels, turn)


def _turn(path: Path, mask: Space, image: Space) -> NDArray[np.float64]:
    """What puts the mask in `path` onto its image's grid."""
    if sorted(mask.shape) != sorted(image.shape):
        raise InputError(
            f"{path}: the mask is {sides(mask.shape)}, its image {sides(image.shape)}; "
            "resample the mask onto its image's grid"
        )
    turn = mask.turn_onto(image)
    if turn is None:
        raise InputError(
            f"{path}: the mask does not lie on its image: its affine is {written(mask.affine)}, the image's "
            f"{written(image.affine)}; resample the mask onto its image's grid, or correct the header that is wrong"
        )
    return turn


def _grid(space: Space | None) -> Grid | None:
    return None if space is None else (space.shape, space.affine)


def _opened(path: Path, what: str, most_axes: int = 3, grid: Grid | None = None) -> Any:
    """A volume of real numbers that has a place; axes of length 1 at the end, behind the third, are left out."""
    nifti = _open(path, grid)
    shape, dtype = nifti.shape, nifti.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if min(shape, default=0) < 1:
        raise InputError(f"{path}: the {what} has no voxels ({sides(shape)}); export it again")
    if not 3 <= len(shape) <= most_axes:
        raise InputError(f"{path}: the {what} is {len(shape)}-D ({sides(nifti.shape)}), not 3-D; save a single volume")
    if dtype.kind not in "iuf":
        kind = "complex numbers" if dtype.kind == "c" else "colours" if dtype.names else f"of type {dtype}"
        raise InputError(f"{path}: its voxels are {kind}, not single real numbers; save a volume of these")
    Space.of(nifti, path)  # also before a new image is made of it: nibabel then decomposes the affine, and may raise
    if shape == nifti.shape:
        return nifti
    return _with_voxels(nifti, nifti.dataobj.reshape(shape))


def _with_voxels(nifti: Any, voxels: Any) -> Any:
    return type(nifti)(voxels, nifti.affine, nifti.header, nifti.extra, nifti.file_map)


def _open(path: Path, grid: Grid | None) -> Any:
    if not path.is_file() and not is_series(path):
        raise InputError(f"{path}: " + ("a folder without a DICOM series" if path.is_dir() else "no such file"))
    try:
        nifti = load(path, grid)
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: not a readable {format_of(path)} file ({one_line(error)}); export it again"
        ) from None
    if not isinstance(nifti, nib.Nifti1Image):
        raise InputError(f"{path}: a {type(nifti).__name__}, not a NIfTI volume; export it again")
    return nifti


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Word what is raised while voxels are read as an InputError."""
    try:
        yield
    except MemoryError:
        raise InputError(f"{path}: its voxels do not fit into memory; check the sides that its header says") from None
    except _UNREADABLE as error:
        raise InputError(f"{path}: damaged or cut short ({one_line(error)}); copy or export it again") from None
