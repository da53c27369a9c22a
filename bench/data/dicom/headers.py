"""What a DICOM image says of its slices; nothing of the patient is among it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.dicom.files import MULTI_FRAME
from bench.data.dicom.toolkit import library, quiet, shown
from bench.errors import InputError
from models.errors import install

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_EXPANSION = 2**14  # the most that a compressed slice may gain; JPEG 2000 packs an even one into some hundred bytes
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNREADABLE = "not a readable DICOM file ({}); copy or export it again"
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "SeriesNumber", "ImageType", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelSpacing", "ImagePositionPatient",
    "ImageOrientationPatient", "SliceThickness", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A slice.

    Attributes:
        number: in its file, from 0.
        position: of the centre of its first voxel, as the file writes it.
        cosines: of its rows and columns, likewise.
        spacing: mm between rows, then between columns, likewise.
        thickness: mm; None where the file says none.
        slope, intercept: of the values that are stored.
    """

    number: int
    position: tuple[str, ...]
    cosines: tuple[str, ...]
    spacing: tuple[str, ...]
    thickness: float | None
    slope: float
    intercept: float


@dataclass(frozen=True)
class ImageFile:
    """An image in a file, of one slice or of all.

    Attributes:
        kind, instance, study, series, frame_of_reference: UIDs; `kind` is its SOP class.
        dtype: of the voxels as stored.
    """

    path: Path
    kind: str
    instance: str
    study: str
    series: str
    frame_of_reference: str
    modality: str
    rows: int
    columns: int
    dtype: np.dtype[Any]
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Header:
    """An image as pydicom reads it, before anything of it is looked at.

    Attributes:
        left: bytes of the file from its voxels on.
        series: UID.
        name: of its series, for messages: what the device was, and its number in the study.
        localizer: whether it was made to plan others, and lies across them.
    """

    path: Path
    dataset: Any
    left: int
    series: str
    name: str
    localizer: bool

    @classmethod
    def read(cls, path: Path) -> "Header":
        """Read what is asked of it; voxels are not.

        Raises:
            InputError: it is damaged.
        """
        with errors_named(path):
            dataset, left = _opened(path)
            image_type = [shown(value) for value in _values(dataset, "ImageType")]
            number, modality = (shown((*_values(dataset, name), "")[0]) for name in ("SeriesNumber", "Modality"))
            name = f"{modality} {number}".strip()
            return cls(path, dataset, left, _uid(dataset, "SeriesInstanceUID"), name, "LOCALIZER" in image_type)

    def image(self) -> ImageFile:
        """All that is needed of it.

        Raises:
            InputError: it is damaged, or cannot be read rightly.
        """
        with errors_named(self.path):
            return _image(self.path, self.dataset, self.left)


class UnfitError(ValueError):
    """What is wrong with a file, and after a semicolon what to do."""


@contextmanager
def errors_named(path: Path, line: str = _UNREADABLE) -> Iterator[None]:
    """Within it pydicom is quiet, and what it cannot read is an `InputError`, without pydicom's words: they may quote
    a value.
    """
    try:
        with quiet(path):
            yield
    except (InputError, MemoryError):
        raise
    except UnfitError as wrong:
        raise InputError(f"{path}: {wrong}") from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{path}: {line.format(reason)}") from None


def has_preamble(path: Path) -> bool:
    """Whether it is a DICOM file rather than a data set alone."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _opened(path: Path) -> tuple[Any, int]:
    """The data set up to its voxels, and how many bytes follow."""
    pydicom, with_preamble = library("pydicom", path), has_preamble(path)
    if with_preamble:  # pydicom unpacks a whole deflated file
        meta = library("pydicom.filereader", path).read_file_meta_info(path)
        if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
            raise UnfitError("its data set is deflated; write it uncompressed, with dcmconv +te")
    with path.open("rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=not with_preamble)
        left = path.stat().st_size - file.tell()
    if left <= 0:
        raise UnfitError("damaged or cut short (it ends before its voxels); copy or export it again")
    return dataset, left


def _image(path: Path, dataset: Any, left: int) -> ImageFile:
    kind = _uid(dataset, "SOPClassUID")
    _refuse_other_pixels(dataset)
    rows, columns = (_whole(dataset, name) for name in ("Rows", "Columns"))
    image = ImageFile(
        path=path,
        kind=kind,
        instance=_uid(dataset, "SOPInstanceUID"),
        study=_uid(dataset, "StudyInstanceUID"),
        series=_uid(dataset, "SeriesInstanceUID"),
        frame_of_reference=_uid(dataset, "FrameOfReferenceUID"),
        modality=shown((*_values(dataset, "Modality"), "")[0]),
        rows=rows,
        columns=columns,
        dtype=_dtype(dataset),
        frames=tuple(_frames(dataset, kind)),
    )
    _refuse_packing(image, dataset, left)
    return image


def _refuse_other_pixels(dataset: Any) -> None:
    """Refuse colours, and values that a table gives."""
    samples, photometric = _whole(dataset, "SamplesPerPixel"), shown(_single(dataset, "PhotometricInterpretation"))
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnfitError(
            f"its voxels are colours ({photometric}), not single numbers; give the series that it was made of"
        )
    modality = (*_values(dataset, "Modality"), "")[0]
    if photometric == "MONOCHROME1" and modality not in ("CT", "PT"):
        raise UnfitError(
            "it is to be shown with low values bright (MONOCHROME1), and whether its values are inverted too is not "
            "said; convert it to MONOCHROME2"
        )
    if _values(dataset, "ModalityLUTSequence"):
        raise UnfitError("its values come from a table (Modality LUT), which is not read; export it with a slope")


def _dtype(dataset: Any) -> np.dtype[Any]:
    allocated, stored, high, signed = (
        _whole(dataset, name) for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    )
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1 or signed not in (0, 1):
        raise UnfitError(
            f"its voxels have {stored} of {allocated} bits up to bit {high}, which is not read; convert it to 16 bits"
        )
    return np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")


def _frames(dataset: Any, kind: str) -> Iterator[Frame]:
    count = _whole(dataset, "NumberOfFrames", 1)
    if kind not in MULTI_FRAME:
        if count != 1:
            raise UnfitError(f"it has {count} frames where its kind has a single slice; export it again")
        yield _frame(0, [dataset])
        return
    shared, each = (list(_values(dataset, f"{name}FunctionalGroupsSequence")) for name in ("Shared", "PerFrame"))
    if count != len(each):
        raise UnfitError(f"it says {count} frames and describes {len(each)}; export it again")
    for number, own in enumerate(each):
        groups = [group for held in (own, *shared) for group in _groups(held)]
        yield _frame(number, groups)


def _groups(held: Any) -> Iterator[Any]:
    for name in (
        "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence"
    ):  # fmt: skip
        yield from _values(held, name)[:1]


def _frame(number: int, held: Sequence[Any]) -> Frame:
    """From the first of `held` that says a thing."""
    thickness = _numbers(held, "SliceThickness", 1, needed=False)
    slope, intercept = (
        float((*_numbers(held, name, 1, needed=False), default)[0])
        for name, default in (("RescaleSlope", "1"), ("RescaleIntercept", "0"))
    )
    if slope == 0:
        raise UnfitError("its RescaleSlope is 0, which leaves nothing of its values; export it again")
    return Frame(
        number,
        _numbers(held, "ImagePositionPatient", 3),
        _numbers(held, "ImageOrientationPatient", 6),
        _numbers(held, "PixelSpacing", 2),
        float(thickness[0]) if thickness else None,
        slope,
        intercept,
    )


def _numbers(held: Sequence[Any], name: str, count: int, needed: bool = True) -> tuple[str, ...]:
    """As the file writes them."""
    values = next((values for each in held if (values := _values(each, name))), ())
    if not values and not needed:
        return ()
    if not values:
        raise UnfitError(f"it has no {name}, so its place is not known; export it again as a series of slices")
    if len(values) != count or not all(map(_is_number, values)):
        raise UnfitError(f"its {name} is not {count} number{'s' * (count > 1)}; export it again")
    return tuple(map(str, values))


def _is_number(value: Any) -> bool:
    try:
        return isfinite(float(value))
    except (ValueError, TypeError):
        return False


def _values(held: Any, name: str) -> tuple[Any, ...]:
    """None of an element that is missing or empty."""
    try:
        value = held.get(name)
    except Exception:  # pydicom's and Python's own, such as of text that is no number
        raise UnfitError(f"its {name} cannot be read; export it again") from None
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    return tuple(value) if not isinstance(value, str) and hasattr(value, "__iter__") else (value,)


def _single(dataset: Any, name: str) -> Any:
    values = _values(dataset, name)
    if len(values) != 1:
        raise UnfitError(
            f"it has no {name}; export it again" if not values else f"it has several {name}; export it again"
        )
    return values[0]


def _whole(dataset: Any, name: str, default: int | None = None) -> int:
    if default is not None and not _values(dataset, name):
        return default
    number = int(_single(dataset, name))
    if number < 0:
        raise UnfitError(f"its {name} is {number}; export it again")
    return number


def _uid(dataset: Any, name: str) -> str:
    uid = str(_single(dataset, name))
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise UnfitError(f"its {name} is none; export it again")
    return uid


def _refuse_packing(image: ImageFile, dataset: Any, left: int) -> None:
    """Refuse voxels that nothing here unpacks, and those for which the file is too short."""
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    uid = library("pydicom.uid", image.path).UID("1.2.840.10008.1.2" if syntax is None else str(syntax))
    decoders = library("pydicom.pixels", image.path)
    try:
        available = decoders.get_decoder(uid).is_available
    except NotImplementedError:
        raise UnfitError(
            f"its transfer syntax {shown(uid, 64)} is not known; write it uncompressed, with dcmconv or gdcmconv --raw"
        ) from None
    if not available:
        raise UnfitError(
            f"its voxels are packed as {uid.name}, which nothing installed here unpacks; {install('dicom')}"
        )
    if image.rows * image.columns == 0:
        raise UnfitError(f"it has no voxels ({image.columns} x {image.rows}); export it again")
    size = prod((image.rows, image.columns, len(image.frames), image.dtype.itemsize))
    if size > left * (_EXPANSION if uid.is_compressed else 1):
        raise UnfitError(f"damaged or cut short ({left} bytes, where its voxels are {size}); copy or export it again")


def numbers(values: Sequence[str]) -> NDArray[np.float64]:
    """What a `Frame` holds as text."""
    return np.array(values, np.float64)
