"""The slices of a series as one nibabel image, whose voxels are read when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from bench.data.dicom.files import MULTI_FRAME, DamagedFileError, images_of
from bench.data.dicom.geometry import SAME_DIRECTION, GeometryError, Stack, stack
from bench.data.dicom.headers import Frame, Header, ImageFile, has_preamble, numbers
from bench.data.dicom.toolkit import library, quiet, shown
from bench.errors import InputError

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's x is to the left, and y to the back
_NAMED = 3  # series in a message


@dataclass(frozen=True)
class Slice:
    """A frame in its file."""

    file: ImageFile
    frame: Frame

    @property
    def place_on_disk(self) -> tuple[str, int]:
        """Its file, and its number there."""
        return str(self.file.path), self.frame.number


@dataclass(frozen=True)
class Series:
    """Slices in their order along their normal.

    Attributes:
        path: the folder, or the only file.
        stack: their grid.
    """

    path: Path
    slices: tuple[Slice, ...]
    stack: Stack

    @classmethod
    def read(cls, path: Path) -> "Series":
        """The only series in a folder, or in a file of several frames. Voxels are not read.

        Localizers, and what is no CT, MR or PET image, are passed by.

        Raises:
            InputError: there is none, or several; or it is damaged or cannot be read rightly.
            OSError: a file cannot be read.
        """
        files = [header.image() for header in _headers(path)]
        slices = [Slice(file, frame) for file in files for frame in file.frames]
        _refuse_copies(path, files)
        _refuse_differing(path, files, slices)
        first = slices[0].frame
        try:
            grid = stack(
                np.array([numbers(each.frame.position) for each in slices]),
                numbers(first.cosines).tolist(),
                numbers(first.spacing).tolist(),
                first.thickness,
            )
        except GeometryError as error:
            raise InputError(f"{path}: {error}") from None
        return cls(path, tuple(slices[number] for number in grid.order), grid)

    @property
    def first(self) -> ImageFile:
        """The file of the first slice."""
        return self.slices[0].file

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        return self.first.columns, self.first.rows, len(self.slices)

    @property
    def affine(self) -> NDArray[np.float64]:
        """From column, row and slice to mm, x to the right and y to the front."""
        affine: NDArray[np.float64] = TO_RAS @ self.stack.affine + 0.0  # without negative zeros
        return affine

    @property
    def files(self) -> tuple[Path, ...]:
        """Each once, in the order of the slices."""
        return tuple(dict.fromkeys(each.file.path for each in self.slices))

    def image(self) -> Any:
        """As a nibabel image of ``[columns, rows, slices]``, with the series in its `extra`."""
        voxels = SeriesVoxels(self)
        image: Any = nib.Nifti2Image(  # type: ignore[no-untyped-call]  # its header holds float64
            voxels,
            self.affine,
            extra={"dicom": self},
            file_map=nib.Nifti2Image.make_file_map({"image": str(self.path)}),
            dtype=voxels.dtype,
        )
        image.header.set_xyzt_units("mm")
        return image


class SeriesVoxels:
    """Voxels that pydicom reads each time they are asked for, in the form of nibabel's `ArrayProxy`.

    Where slope or intercept differ between slices, what is stored is taken to be the scaled values, as float32.
    """

    is_proxy = True

    def __init__(self, series: Series) -> None:
        self.shape = series.shape
        self._series = series
        scalings = {(each.frame.slope, each.frame.intercept) for each in series.slices}
        self._by_slice = len(scalings) > 1
        self.slope, self.inter = (1.0, 0.0) if self._by_slice else scalings.pop()
        stored = np.result_type(*{each.file.dtype for each in series.slices})
        self.dtype = np.dtype(np.float32) if self._by_slice else stored

    @property
    def ndim(self) -> int:
        return 3

    def get_unscaled(self) -> NDArray[Any]:
        """Voxels ``[columns, rows, slices]``, the first axis contiguous.

        Raises:
            ImageFileError: a file is damaged or cut short.
            InputError: pydicom is missing.
        """
        columns, rows, count = self.shape
        voxels = np.empty((count, rows, columns), self.dtype)
        places = sorted(range(count), key=lambda place: self._series.slices[place].place_on_disk)
        for path, of_file in groupby(places, lambda place: self._series.slices[place].file.path):
            slices = {place: self._series.slices[place] for place in of_file}
            for (place, each), plane in zip(slices.items(), _planes(path, list(slices.values())), strict=True):
                if self._by_slice:
                    plane = plane * np.float64(each.frame.slope) + each.frame.intercept
                voxels[place] = plane
        return voxels.transpose(2, 1, 0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(apply_read_scaling(self.get_unscaled(), self.slope, self.inter), dtype)

    def __getitem__(self, part: Any) -> Any:
        return np.asarray(self)[part]


def _planes(path: Path, slices: Sequence[Slice]) -> list[NDArray[Any]]:
    """The voxels ``[rows, columns]`` of frames of a file."""
    file, wanted = slices[0].file, [each.frame.number for each in slices]
    pixels = library("pydicom.pixels", path)
    try:
        with quiet(path):
            source = path if has_preamble(path) else _with_syntax(path)
            planes = list(pixels.iter_pixels(source, indices=wanted, raw=True))
    except MemoryError:
        raise
    except Exception as error:  # of as many kinds as there are decoders
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise ImageFileError(f"{shown(path.name)}: {shown(reason, 70)}") from None
    if any(plane.shape != (file.rows, file.columns) for plane in planes):
        raise ImageFileError(f"{shown(path.name)}: unpacked to another size than its header says")
    return [plane.astype(file.dtype, copy=False) for plane in planes]


def _with_syntax(path: Path) -> Any:
    """A data set without meta information, which would say how its voxels are stored."""
    dataset = library("pydicom", path).dcmread(path, force=True)
    implicit, little = dataset.original_encoding
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")
    return dataset


def _headers(path: Path) -> list[Header]:
    """Of the images of the only series."""
    try:
        files, others = images_of(path)
    except DamagedFileError as damaged:
        raise InputError(f"{damaged.file}: holds no DICOM; copy the series again, or take the file out") from None
    read = [Header.read(file) for file in files]
    headers = [header for header in read if not header.localizer]
    if not headers:
        held = [f"{len(read)} localizers"] * bool(read)
        held += [f"{count} of {_name_of(kind, path)}" for kind, count in others.items()]
        what = ", ".join(held[:_NAMED])
        raise InputError(f"{path}: holds no CT, MR or PET slices ({what}); give the folder of a series")
    by_series: dict[str, list[Header]] = {}
    for header in headers:
        by_series.setdefault(header.series, []).append(header)
    if len(by_series) > 1:
        raise InputError(f"{path}: holds {_series_in(list(by_series.values()))}; put each into a folder of its own")
    return headers


def _series_in(groups: Sequence[Sequence[Header]]) -> str:
    """``2 series: CT 3 (40 files, a.dcm the first) and CT 4 (38 files, b.dcm the first)``.

    Their UIDs and descriptions are left out: devices make these of dates, and people write names into those.
    """
    named = [
        f"{group[0].name or 'one'} ({len(group)} file{'s' * (len(group) > 1)}, {shown(group[0].path.name)} the first)"
        for group in groups
    ]
    more = [f"{len(named) - _NAMED} more"] * (len(named) > _NAMED)
    return f"{len(groups)} series: " + " and ".join([*named[:_NAMED], *more])


def _name_of(kind: str, path: Path) -> str:
    """Of a class of files."""
    return shown(library("pydicom.uid", path).UID(kind).name or "unknown DICOM")


def _refuse_copies(path: Path, files: Sequence[ImageFile]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        before = seen.setdefault(file.instance, file.path)
        if before is not file.path:
            names = f"{shown(before.name)} and {shown(file.path.name)}"
            raise InputError(f"{path}: {names} are copies of one image; take one of them out")
    if len(files) > 1 and any(file.kind in MULTI_FRAME for file in files):
        count = f"{len(files)} files of several frames"
        raise InputError(f"{path}: its frames are in {count}; put each into a folder of its own")


def _refuse_differing(path: Path, files: Sequence[ImageFile], slices: Sequence[Slice]) -> None:
    """Refuse slices that are no volume."""
    sides = sorted({(file.columns, file.rows) for file in files})
    if len(sides) > 1:
        listed = " and ".join(f"{columns} x {rows}" for columns, rows in sides[:_NAMED])
        raise InputError(f"{path}: its slices are {listed} voxels; put each size into a folder of its own")
    for name, what in (("kind", "kinds"), ("study", "studies"), ("frame_of_reference", "frames of reference")):
        if len({getattr(file, name) for file in files}) > 1:
            raise InputError(f"{path}: its slices are of several {what}; put each into a folder of its own")
    for name, tolerance in (("cosines", SAME_DIRECTION), ("spacing", None)):
        values = np.array([numbers(getattr(each.frame, name)) for each in slices])
        off = np.abs(values - values[0]).max()
        if off > (tolerance or 1e-4 * np.abs(values[0]).min()):
            different = len(np.unique(np.round(values, 3), axis=0))
            what = "directions" if name == "cosines" else "spacings of voxels"
            raise InputError(
                f"{path}: its slices have several {what} ({max(different, 2)}); put each into a folder of its own"
            )
