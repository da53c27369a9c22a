"""Formats of image and mask files. NIfTI is nibabel's; NRRD and MetaImage are SimpleITK's, as nibabel images in memory.

Those lie where ITK puts them, with its x and y, which lead to the left and to the back, turned round. Their voxels are
read when they are asked for. A DICOM series is a folder, and a nibabel image likewise (`bench.data.dicom`); its masks
are DICOM segmentations.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from bench.data.compression import deflate, gzip, inflate
from bench.data.dicom import segmentation
from bench.data.dicom.files import ENDING, SEGMENTATION, class_of, is_image, is_named, is_series
from bench.data.dicom.series import Series
from bench.errors import InputError
from models.errors import install

FORMATS = {
    ".nii.gz": "NIfTI", ".nii": "NIfTI", ".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage"
}  # fmt: skip
"""By the ending of a file's name."""

Grid = segmentation.Grid

_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_PIXEL = re.compile(r"(?:vector of )?(\d+)-bit (signed integer|unsigned integer|float)")
_KINDS = {"signed integer": "i", "unsigned integer": "u", "float": "f"}
_ELEMENTS = {
    "i1": "CHAR", "u1": "UCHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "u4": "UINT", "i8": "LONG_LONG",
    "u8": "ULONG_LONG", "f4": "FLOAT", "f8": "DOUBLE",
}  # fmt: skip
"""MetaIO's names of types, by numpy's."""
_IMAGE_IO = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}  # by itself ITK knows no MetaImage named in capitals
_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "none")
_MOST_HEADER = 2**20  # bytes


@dataclass(frozen=True)
class Geometry:
    """Where ITK puts a 3-D volume: mm, and the cosines of its axes row by row."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]


def ending_of(name: str) -> str:
    """That of an image or mask, in small letters; empty for every other file, and for DICOM, whose files are no cases
    by themselves.
    """
    return next((ending for ending in FORMATS if name[-len(ending) :].casefold() == ending), "")


def stem_of(name: str) -> str:
    """The name of an image or mask without its ending."""
    ending = ending_of(name) or (ENDING if is_named(name) else "")
    return name[: len(name) - len(ending)]


def mask_ending(image: Path | str) -> str:
    """Of predictions on `image`: its own format in one file, compressed but for DICOM."""
    return {"NRRD": ".nrrd", "MetaImage": ".mha", "DICOM": ENDING}.get(format_of(image), ".nii.gz")


def format_of(path: Path | str) -> str:
    """``DICOM`` for the folder of a series, ``NIfTI`` for files of unknown endings and for what is not there."""
    path = Path(path)
    if ending_of(path.name):
        return FORMATS[ending_of(path.name)]
    return "DICOM" if is_named(path.name) or is_series(path) else "NIfTI"


def files_of(path: Path) -> tuple[Path, ...]:
    """An image or mask, and the file of its voxels where a MetaImage's header names one beside it; of a DICOM series,
    the files of its slices in their order.

    Raises:
        InputError: its voxels are in several files, or elsewhere; or a NRRD's are not in the file itself; or a series
            cannot be read.
        OSError: it cannot be read.
    """
    if is_series(path):
        return Series.read(path).files
    if format_of(path) in ("NIfTI", "DICOM"):
        return (path,)
    header = _Header(path)
    return (path,) if header.voxels == path else (path, header.voxels)


def load(path: Path, grid: Grid | None = None) -> Any:
    """Open an image or mask as a nibabel image, 3-D, or 4-D where it has several values a voxel: ``[X, Y, Z, C]``.

    A DICOM segmentation leaves slices out that have no voxel of it; it is put onto `grid`, its image's.

    Raises:
        InputError: a library is missing, lengths are not in mm, or DICOM cannot be read; or as of `files_of`.
        ImageFileError or what else nibabel raises: it is damaged, or something else.
    """
    kind = format_of(path)
    if kind == "DICOM":
        return _by_pydicom(path, grid)
    return nib.load(path) if kind == "NIfTI" else _by_simpleitk(path)


def packed_mask(path: Path, labels: NDArray[np.uint8], source: Any, names: Mapping[int, str]) -> bytes:
    """The DICOM, NRRD or MetaImage file `path` of `labels` ``[X, Y, Z]``, which lie where `source` does, an image of
    `load`; in DICOM each label has its name.

    SimpleITK's writers lose an error of the disk that meets the last bytes.

    Raises:
        InputError: as of `bench.data.dicom.segmentation.packed`, or `source` is no DICOM series and `path` is DICOM.
    """
    if format_of(path) == "DICOM":
        series = (source.extra or {}).get("dicom")
        if series is None:
            raise InputError(f"{path}: a DICOM segmentation is of a DICOM series, which its image is not; write NIfTI")
        return segmentation.packed(series, labels, names)
    geometry: Geometry = source.extra["itk"]
    voxels = np.ascontiguousarray(labels.T).reshape(-1)
    if format_of(path) == "NRRD":
        fields, packed = _nrrd_fields(labels.shape, geometry), gzip(voxels)
        return "".join(f"{line}\n" for line in ("NRRD0004", *fields, "")).encode() + packed
    packed = deflate(voxels)
    return "".join(f"{line}\n" for line in _metaimage_fields(labels.shape, geometry, len(packed))).encode() + packed


def packed_image(image: Any) -> bytes:
    """A MetaImage file of a 3-D image of `load` that ITK reads: its voxels and where they lie, and nothing else."""
    voxels = image.dataobj.get_unscaled()
    element, geometry = _ELEMENTS[voxels.dtype.str[1:]], image.extra["itk"]
    packed = deflate(np.ascontiguousarray(voxels.T).reshape(-1).view(np.uint8))
    fields = _metaimage_fields(image.shape, geometry, len(packed), element)
    return "".join(f"{line}\n" for line in fields).encode() + packed


def _nrrd_fields(shape: tuple[int, ...], geometry: Geometry) -> tuple[str, ...]:
    """As teem's NRRD 4 has them."""
    columns = (np.reshape(geometry.direction, (3, 3)) * geometry.spacing).T.tolist()
    return (
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {_listed(shape)}",
        "space directions: " + " ".join(f"({_listed(column, ',')})" for column in columns),
        "kinds: domain domain domain",
        "encoding: gzip",
        f"space origin: ({_listed(geometry.origin, ',')})",
    )


def _metaimage_fields(shape: tuple[int, ...], geometry: Geometry, size: int, element: str = "UCHAR") -> tuple[str, ...]:
    """As MetaIO has them; its matrix holds an axis a row."""
    return (
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {size}",
        f"TransformMatrix = {_listed(np.reshape(geometry.direction, (3, 3)).T.ravel().tolist())}",
        f"Offset = {_listed(geometry.origin)}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_listed(geometry.spacing)}",
        f"DimSize = {_listed(shape)}",
        f"ElementType = MET_{element}",
        "ElementDataFile = LOCAL",
    )


def _listed(values: Iterable[float], between: str = " ") -> str:
    return between.join(map(repr, values))


def _by_pydicom(path: Path, grid: Grid | None) -> Any:
    kind = None if path.is_dir() else class_of(path)
    if kind == SEGMENTATION:
        return segmentation.read(path, grid)
    if path.is_file() and not is_image(kind):
        raise InputError(f"{path}: holds no DICOM image or segmentation that is read; give the folder of a series")
    return Series.read(path).image()


def _by_simpleitk(path: Path) -> Any:
    itk, header = _simpleitk(path), _Header(path)
    header.refuse_other_units()
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_IMAGE_IO[format_of(path)])
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageFileError(last_line(error)) from None
    sides, parts = reader.GetSize(), reader.GetNumberOfComponents()
    pixel = itk.GetPixelIDValueAsString(reader.GetPixelID())
    match = _PIXEL.fullmatch(pixel)
    if match is None:
        raise InputError(f"{path}: its voxels are {pixel}, not single real numbers; save a volume of these")
    dtype = np.dtype(f"{_KINDS[match[2]]}{int(match[1]) // 8}")
    voxels = ItkVoxels(path, sides if parts == 1 else (*sides, parts), dtype)
    geometry, axes = _geometry(reader), np.eye(4)
    axes[:3, :3] = np.reshape(geometry.direction, (3, 3)) * geometry.spacing
    axes[:3, 3] = geometry.origin
    image: Any = nib.Nifti2Image(  # type: ignore[no-untyped-call]  # its header holds float64
        voxels,
        _RAS @ axes + 0.0,  # without negative zeros
        extra={"itk": geometry},
        file_map=nib.Nifti2Image.make_file_map({"image": str(path)}),
        dtype=dtype,
    )
    image.header.set_xyzt_units("mm")
    return image


def _geometry(reader: Any) -> Geometry:
    """Of the first three axes; of a plane, with a third."""
    axes = reader.GetDimension()
    direction = np.eye(max(axes, 3))
    direction[:axes, :axes] = np.reshape(reader.GetDirection(), (axes, axes))
    origin, spacing = (*reader.GetOrigin(), 0.0)[:3], (*reader.GetSpacing(), 1.0)[:3]
    return Geometry(origin, spacing, tuple(direction[:3, :3].ravel().tolist()))


class ItkVoxels:
    """Voxels that SimpleITK reads each time they are asked for, in the form of nibabel's `ArrayProxy`."""

    is_proxy = True
    slope, inter = 1.0, 0.0

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path = path
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def get_unscaled(self) -> NDArray[Any]:
        """Voxels ``[X, Y, Z]`` or ``[X, Y, Z, C]``.

        Raises:
            ImageFileError: the file is damaged or cut short.
        """
        self.refuse_damaged()
        itk = _simpleitk(self.path)
        try:
            image = itk.ReadImage(str(self.path), imageIO=_IMAGE_IO[format_of(self.path)])
        except RuntimeError as error:
            raise ImageFileError(last_line(error)) from None
        voxels = itk.GetArrayFromImage(image).astype(self.dtype, copy=False)
        # ITK's arrays are [z, y, x], and [z, y, x, c] where a voxel has several values.
        axes = (2, 1, 0, 3) if image.GetNumberOfComponentsPerPixel() > 1 and voxels.ndim == 4 else None
        turned: NDArray[Any] = voxels.transpose(axes).reshape(self.shape, order="F")
        return turned

    def refuse_damaged(self) -> None:
        """Refuse a file that ITK would read although voxels are missing or changed.

        Raises:
            ImageFileError: so it is.
        """
        _Header(self.path).refuse_damaged(prod(self.shape) * self.dtype.itemsize)

    def reshape(self, shape: tuple[int, ...]) -> "ItkVoxels":
        return ItkVoxels(self.path, shape, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.get_unscaled(), dtype)

    def __getitem__(self, part: Any) -> Any:
        return self.get_unscaled()[part]


def _names_voxels_once(header: bytes) -> bool:
    """Whether ITK will look for the voxels where we do: it spells the field exactly, and takes `:` for `=`."""
    last = header[header.rfind(b"\n", 0, -1) + 1 :]
    exact = re.fullmatch(rb"ElementDataFile *= *[^\s=:][^\r\n]*(\r?\n)?", last) is not None
    return exact and header.lower().count(b"elementdatafile") == 1 and b"\0" not in header


class _Header:
    """What a NRRD's or MetaImage's header says, of which ITK does not speak or which it does not check.

    Attributes:
        path: of the file. voxels: of the file that holds them. start: the first byte there.
    """

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            as `files_of`
        """
        self.path = path
        self._nrrd = format_of(path) == "NRRD"
        self._fields: dict[str, str] = {}
        header = b""
        with path.open("rb") as file:
            while file.tell() < _MOST_HEADER and (line := file.readline(_MOST_HEADER)):
                header += line
                name, _, value = line.decode("latin-1").partition(":" if self._nrrd else "=")
                name = name.strip().casefold()
                self._fields[name] = value.strip()
                if name == ("" if self._nrrd else "elementdatafile"):
                    break
            start = file.tell()
        said = b"elementdatafile" in header.lower() or start >= _MOST_HEADER  # else it is cut short, as ITK will say
        if not self._nrrd and said and not _names_voxels_once(header):
            raise InputError(f"{path}: its header does not say once and plainly where its voxels are; save it again")
        self.voxels = self._file_of_voxels()
        self.start = start if self.voxels == path else 0

    def _file_of_voxels(self) -> Path:
        if self._nrrd:
            named = self._fields.get("data file", self._fields.get("datafile", ""))
            remedy = "save it as one .nrrd file"
        else:
            named = self._fields.get("elementdatafile", "")
            named, remedy = "" if named == "LOCAL" else named, "save it as one .mha file"
        if not named:
            return self.path
        if self._nrrd or named.startswith("LIST") or "%" in named or Path(named).name != named:
            raise InputError(f"{self.path}: its voxels are in another file ({named[:40]}); {remedy}")
        return self.path.with_name(named)

    def refuse_other_units(self) -> None:
        """Refuse lengths in anything but mm.

        Raises:
            InputError: so they are.
        """
        units = re.findall(r'"([^"]*)"', self._fields.get("space units", ""))
        for unit in (*units, self._fields.get("distanceunits", "")):
            if unit.strip().casefold() not in _MILLIMETRES:
                raise InputError(f"{self.path}: its lengths are in {unit[:20]}; convert its geometry to millimetres")

    def refuse_damaged(self, size: int) -> None:
        """Refuse a MetaImage whose voxels are not `size` bytes, or not those whose checksum it holds.

        ITK checks neither, and gives what it could unpack. It checks a NRRD.

        Raises:
            ImageFileError, OSError: so it is.
        """
        if self._nrrd:
            return
        if self._fields.get("compresseddata", "").casefold() == "true":
            held = len(inflate(self.voxels.read_bytes()[self.start :], size))
        else:
            held = self.voxels.stat().st_size - self.start
        if held < size:
            raise ImageFileError(f"{held} bytes where {size} are expected")


def _simpleitk(path: Path) -> Any:
    try:
        return import_module("SimpleITK")
    except ImportError:
        raise InputError(
            f"{path}: {format_of(path)} files are read by SimpleITK, which is not installed; {install('itk')}"
        ) from None


def last_line(error: BaseException) -> str:
    """What ITK says of an error in many lines, without the file, which our own line names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1].removeprefix("Reason: ")
