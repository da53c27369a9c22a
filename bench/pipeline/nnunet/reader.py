"""nnU-Net's readers, and where the voxels lie that they give.

ITK takes a file's spacing from `pixdim`, and its place from the qform as a rule; nnU-Net's readers by nibabel take
`pixdim` too. Where a header contradicts itself, the affine in force (`bench.data.space`) takes the place of what they
report.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import affines, orientations
from numpy.typing import NDArray

from bench.data.formats import ItkVoxels, last_line
from bench.data.space import TOLERANCE, Space, spacing_of
from bench.data.volume import damage_reported, finite_voxels, not_finite, read_as_stored, read_header
from bench.data.voxels import needs_no_scaling
from bench.errors import InputError
from models.errors import sides
from models.model import Plans
from models.suppress import suppress_output

_OF: Any = orientations  # its functions carry no types
_TO_ITK = np.diag([-1.0, -1.0, 1.0, 1.0])  # whose x is to the left, and y to the back


class Reader:
    """The reader that plans name; its arrays are ``[z, y, x]``, of an image as stored or in RAS orientation.

    Attributes:
        name: as in the plans.
    """

    def __init__(self, plans: Any) -> None:
        self._reader = plans.image_reader_writer_class()
        self.name = type(self._reader).__name__

    def read(self, paths: Sequence[Path], niftis: Sequence[Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Voxels ``[C, z, y, x]``, and nnU-Net's properties; `niftis` are what `open_channels` gives of `paths`.

        Raises:
            InputError: the reader does not take it, it is damaged, or a voxel is NaN or infinite.
        """
        data, properties = self._read(paths, niftis)
        if not np.isfinite(data).all():
            raise not_finite(paths[0])
        return data, properties

    def _read(self, paths: Sequence[Path], niftis: Sequence[Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if self.name == "SimpleITKIO":
            for path, nifti in zip(paths, niftis[: len(paths)], strict=True):  # one file may hold all channels
                _refuse_what_itk_mends(path, getattr(nifti.dataobj, "whole", nifti))
        with _errors_shortened(paths[0], self.name), suppress_output():
            if self.name != "SimpleITKIO":
                channels = [self._by_nibabel(nifti) for nifti in niftis]
                return np.vstack([data for data, _ in channels]), channels[0][1]
            if any(map(_is_unknown_to_itk, niftis)):
                return self._as_itk(paths, niftis)
            data, properties = self._reader.read_images([str(path) for path in paths])
        expected = (len(niftis), *niftis[0].shape[::-1])
        if data.shape != expected:  # of several values a voxel it takes these for the last axis
            raise InputError(
                f"{paths[0]}: nnU-Net's {self.name} reads {sides(data.shape)} voxels where {sides(expected)} are "
                "expected; save each channel as a file of its own"
            )
        return data, properties | _in_force(properties, Space(niftis[0].shape, niftis[0].affine))

    def read_quickly(self, paths: Sequence[Path], niftis: Sequence[Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """What `read` gives, where files hold voxels that need no scaling without this reader unpacking them.

        Raises:
            InputError: as of `read`, or a voxel is NaN or infinite.
        """
        if self._reorients or len(niftis) > len(paths) or not all(map(needs_no_scaling, niftis)):
            return self.read(paths, niftis)
        if self.name == "SimpleITKIO" and any(map(_is_unknown_to_itk, niftis)):
            return self.read(paths, niftis)
        with damage_reported(paths[0]):
            data = np.empty((len(niftis), *niftis[0].shape[::-1]), np.float32)
        for path, nifti, channel in zip(paths, niftis, data, strict=True):
            read_as_stored(path, nifti, channel)
        if self.name != "SimpleITKIO":
            return data, self._place(niftis[0], niftis[0])
        with _errors_shortened(paths[0], self.name):
            headers = [itk_header(path) for path in paths]
        spacing, origin, direction = (
            getattr(headers[0], name)() for name in ("GetSpacing", "GetOrigin", "GetDirection")
        )
        stuff = {"spacing": spacing, "origin": origin, "direction": direction}
        properties = {"sitk_stuff": stuff, "spacing": [abs(mm) for mm in spacing[::-1]]}
        return data, _in_force(properties, Space(niftis[0].shape, niftis[0].affine))

    def as_read(self, labels: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
        """Labels of an image with `affine` as the reader would give them: from ``[x, y, z]`` as stored."""
        turned = _OF.apply_orientation(labels, _OF.io_orientation(affine)) if self._reorients else labels
        return np.ascontiguousarray(turned.transpose(2, 1, 0))

    def as_stored(self, labels: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
        """The other way round; the first axis is contiguous."""
        stored = labels.transpose(2, 1, 0)
        if self._reorients:
            from_ras = _OF.ornt_transform(_OF.axcodes2ornt("RAS"), _OF.io_orientation(affine))
            stored = _OF.apply_orientation(stored, from_ras)
        return np.asfortranarray(stored)

    def _as_itk(self, paths: Sequence[Path], niftis: Sequence[Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """What SimpleITKIO gives of volumes in NIfTI-1; it reads neither NIfTI-2 nor a series of DICOM."""
        for path, nifti in zip(paths, niftis, strict=True):
            _refuse_tilted(path, nifti)
        data = np.stack([nifti.get_fdata(dtype=np.float32, caching="unchanged").transpose(2, 1, 0) for nifti in niftis])
        affine = niftis[0].affine
        return data, {"sitk_stuff": _itk_place(affine), "spacing": list(spacing_of(affine)[::-1])}

    @property
    def _reorients(self) -> bool:
        return self.name == "NibabelIOWithReorient"

    def _by_nibabel(self, nifti: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """What NibabelIO and NibabelIOWithReorient give, but also of a file with axes of length 1 behind the third."""
        oriented = nifti.as_reoriented(_OF.io_orientation(nifti.affine)) if self._reorients else nifti
        data = oriented.get_fdata(caching="unchanged").transpose(2, 1, 0)[None].astype(np.float32)
        return data, self._place(nifti, oriented)

    def _place(self, nifti: Any, oriented: Any) -> dict[str, Any]:
        place = {"original_affine": nifti.affine, "reoriented_affine": oriented.affine}
        return {"nibabel_stuff": place, "spacing": _spacing(oriented.header.get_zooms()[::-1], oriented.affine)}


def refuse_unreadable(plans: Plans, images: Iterable[Path]) -> None:
    """Refuse images whose headers ITK does not take, where the plans read by it; their voxels are not read.

    Raises:
        InputError: the first of them.
    """
    if plans.plans["image_reader_writer"] != "SimpleITKIO":
        return
    for path in images:
        if _is_unknown_to_itk(nifti := read_header(path)):
            _refuse_tilted(path, nifti)
            continue
        with _errors_shortened(path, "SimpleITKIO"):
            itk_header(path)


def itk_header(path: Path) -> Any:
    """What ITK reads of a file without its voxels."""
    itk: Any = import_module("SimpleITK")  # which carries no types
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _spacing(reported: Iterable[float], affine: NDArray[np.float64]) -> list[float]:
    """Spacing z, y, x: as a reader reports it, or where that is another than the affine's, the affine's."""
    spacing, in_force = [float(mm) for mm in reported], list(spacing_of(affine)[::-1])
    return spacing if np.allclose(spacing, in_force, rtol=TOLERANCE) else in_force


def _in_force(properties: dict[str, Any], space: Space) -> dict[str, Any]:
    """ITK's geometry, by which nnU-Net resamples and writes, brought to `space`."""
    stuff = properties["sitk_stuff"]
    axes = len(stuff["spacing"])  # 4 where channels are one
    direction = np.reshape(stuff["direction"], (axes, axes))[:3, :3]
    stuff = {key: stuff[key][:3] for key in ("spacing", "origin")} | {"direction": tuple(direction.ravel().tolist())}
    itk = np.eye(4)
    itk[:3, :3] = direction * stuff["spacing"]
    itk[:3, 3] = stuff["origin"]
    if not Space(space.shape, _TO_ITK @ itk).lies_on(space):
        stuff = _itk_place(space.affine)
    return {"sitk_stuff": stuff, "spacing": _spacing(properties["spacing"], space.affine)}


def _itk_place(affine: NDArray[np.float64]) -> dict[str, Any]:
    """As SimpleITKIO notes it."""
    itk = _TO_ITK @ affine
    spacing = affines.voxel_sizes(affine)  # type: ignore[no-untyped-call]
    direction = (itk[:3, :3] / spacing).ravel()
    return {"spacing": tuple(spacing), "origin": tuple(itk[:3, 3]), "direction": tuple(direction)}


def _is_unknown_to_itk(nifti: Any) -> bool:
    """Whether it is a series of DICOM, or NIfTI-2."""
    return isinstance(nifti, nib.Nifti2Image) and "itk" not in (nifti.extra or {})


def _refuse_tilted(path: Path, nifti: Any) -> None:
    """ITK has no axes that are not perpendicular."""
    if not _is_unknown_to_itk(nifti):
        return
    if "dicom" not in (nifti.extra or {}):
        if Space.of(nifti, path).sheared:
            raise InputError(
                f"{path}: its axes are not perpendicular, which nnU-Net's SimpleITKIO does not read; resample it onto "
                "a straight grid"
            )
        return
    stack = nifti.extra["dicom"].stack
    if stack.tilted:
        raise InputError(
            f"{path}: its slices are tilted by {stack.tilt:.1f} degrees (gantry tilt), which nnU-Net's SimpleITKIO "
            "does not read; resample it onto a straight grid"
        )


def _refuse_what_itk_mends(path: Path, nifti: Any) -> None:
    """Refuse what ITK reads without a word: a MetaImage that is damaged, and NIfTI's NaN and infinity, which become 0.

    Raises:
        InputError: so it is.
    """
    if isinstance(nifti.dataobj, ItkVoxels):
        with damage_reported(path):
            nifti.dataobj.refuse_damaged()
    elif nifti.get_data_dtype().kind == "f":
        finite_voxels(path, nifti)


@contextmanager
def _errors_shortened(path: Path, reader: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever ITK does not like is a RuntimeError of many lines
        reason = last_line(error)[:200]
        raise InputError(f"{path}: nnU-Net's {reader} cannot read it ({reason}); export it again") from None
