"""Labels as a DICOM Segmentation, with a segment for each and a frame for each of its slices, and back."""

import hashlib
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

import bench
from bench.data.dicom.concepts import concepts_of
from bench.data.dicom.files import MULTI_FRAME
from bench.data.dicom.geometry import NEAR, GeometryError, directions
from bench.data.dicom.headers import UnfitError, errors_named, numbers
from bench.data.dicom.series import TO_RAS, Series
from bench.data.dicom.toolkit import library, quiet, shown
from models.task import BACKGROUND, MOST_LABEL

NAME = "voxbench"
_SERIES_NUMBER = 900  # behind those of a device
_NOT_YET = "2.25.0"
_LABEL = re.compile(r"label (\d{1,3})")
_MOST_LETTERS = 64  # of a segment's name
_NOT_IN_TEXT = re.compile(r"[\\\x00-\x1f\x7f]")
_DATES = ("Content", "Acquisition", "Series", "Study")
_AXES: Any = orientations  # its functions carry no types

Grid = tuple[tuple[int, ...], NDArray[np.float64]]
"""Sides of a volume, and its affine to mm to the right, to the front, up."""


def packed(series: Series, labels: NDArray[np.uint8], names: Mapping[int, str]) -> bytes:
    """A file of `labels` ``[columns, rows, slices]`` on the slices of `series`.

    Every label of `names` but the background is a segment, also one that no voxel has; other labels are called after
    their numbers. Frames without a voxel are left out. Equal labels, names and series give equal files: UIDs are made
    of what the file holds, and its date is that of the images.

    Raises:
        InputError: pydicom or highdicom is missing, or files of the series have changed.
    """
    planes = np.ascontiguousarray(labels.T)
    segments = _segments(planes, names)
    numbers_of = dict(zip(segments, range(1, len(segments) + 1), strict=True))
    if any(value != number for value, number in numbers_of.items()):
        table = np.zeros(MOST_LABEL + 1, np.uint8)
        table[list(numbers_of)] = list(numbers_of.values())
        planes = table[planes]
    with quiet(series.path):
        dataset = _dataset(series, planes, segments)
    with errors_named(series.path, "no segmentation can be written of it ({}); export it again"):
        _copy_patient(dataset, series, all(name.isascii() for name in segments.values()))
        _identify(dataset)
        content = BytesIO()
        dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def read(path: Path, grid: Grid | None = None) -> Any:
    """The labels of a segmentation as a nibabel image of uint8: on `grid`, an image's, or from its first slice to its
    last.

    Segments keep the labels that `packed` was given, and their numbers where they are another program's.

    Raises:
        InputError: it is damaged, not of this kind, overlaps itself, or does not lie on `grid`.
    """
    with errors_named(path):
        dataset = library("pydicom", path).dcmread(path)
        if dataset.get("SegmentationType") != "BINARY":
            raise UnfitError(f"it is no binary DICOM segmentation ({shown(dataset.get('Modality', ''))}); give one")
        labels, affine = _volume(dataset)
        if grid is not None:
            labels, affine = _onto(grid, labels, affine), grid[1]
    files = nib.Nifti2Image.make_file_map({"image": str(path)})
    image: Any = nib.Nifti2Image(labels, affine, file_map=files, dtype=np.uint8)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    return image


def _segments(planes: NDArray[np.uint8], names: Mapping[int, str]) -> dict[int, str]:
    """Names by label, in rising order; at least one, which the standard asks for."""
    # Slice by slice, since numpy counts in eight bytes a voxel.
    present = {value for plane in planes for value in np.flatnonzero(np.bincount(plane.ravel())).tolist()}
    values = sorted((present | set(names)) - {BACKGROUND}) or [1]
    return {value: _NOT_IN_TEXT.sub("_", names.get(value, f"label {value}"))[:_MOST_LETTERS] for value in values}


def _dataset(series: Series, planes: NDArray[np.uint8], segments: Mapping[int, str]) -> Any:
    """highdicom's, of images without a patient, for whom it would print what it does not like."""
    seg = library("highdicom.seg", series.path)
    hd = library("highdicom", series.path)
    codes = library("pydicom.sr.codedict", series.path).codes
    descriptions = []
    for number, (value, name) in enumerate(segments.items(), 1):
        category, kind = concepts_of(name, series.path)
        segment = seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type="AUTOMATIC",
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name=NAME, family=codes.DCM.ArtificialIntelligence, version=bench.__version__
            ),
        )
        segment.SegmentDescription = f"label {value}"
        descriptions.append(segment)
    if series.first.kind in MULTI_FRAME:
        planes = planes[np.argsort([each.frame.number for each in series.slices])]
    positions = None
    if not planes.any():  # highdicom would keep every empty frame
        planes, first = planes[:1], series.slices[0].frame
        positions = [hd.PlanePositionSequence("PATIENT", numbers(first.position))]
    made = seg.Segmentation(
        source_images=_sources(series),
        pixel_array=planes,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=_NOT_YET,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=_NOT_YET,
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=bench.__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description="Labels of a network",
        series_description="Segmentation",
        plane_positions=positions,
    )
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = library("pydicom.valuerep", series.path).format_number_as_ds(series.stack.apart)
    return made


def _sources(series: Series) -> list[Any]:
    """The images as highdicom asks for them: what they are, and where their slices lie."""
    dataset = library("pydicom", series.path).Dataset
    first = series.slices[0].frame
    multi, sources = series.first.kind in MULTI_FRAME, []
    for each in series.slices[:1] if multi else series.slices:
        file, source = each.file, dataset()
        source.SOPClassUID, source.SOPInstanceUID = file.kind, file.instance
        source.StudyInstanceUID, source.SeriesInstanceUID = file.study, file.series
        source.FrameOfReferenceUID, source.Modality = file.frame_of_reference, file.modality
        source.Rows, source.Columns = file.rows, file.columns
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            setattr(source, name, None)
        source.StudyDate = source.StudyTime = None
        orientation, measures = (source, source) if not multi else (dataset(), dataset())
        orientation.ImageOrientationPatient = list(first.cosines)
        measures.PixelSpacing, measures.SliceThickness = list(first.spacing), first.thickness
        if multi:
            shared = dataset()
            shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
            source.SharedFunctionalGroupsSequence = [shared]
            source.NumberOfFrames = len(series.slices)
            source.PerFrameFunctionalGroupsSequence = _positions(series, dataset)
        else:
            source.ImagePositionPatient = list(each.frame.position)
        sources.append(source)
    return sources


def _positions(series: Series, dataset: Any) -> list[Any]:
    """Of all frames, in the order of the file."""
    groups = []
    for each in sorted(series.slices, key=lambda each: each.frame.number):
        group, place = dataset(), dataset()
        place.ImagePositionPatient = list(each.frame.position)
        group.PlanePositionSequence = [place]
        groups.append(group)
    return groups


def _copy_patient(dataset: Any, series: Series, ascii_names: bool) -> None:
    """Give it the patient and the study of the images, with the date of their content.

    What cannot be read of them is left out.
    """
    source = library("pydicom", series.path).dcmread(series.first.path, stop_before_pixels=True, force=True)
    if source.get("SOPInstanceUID") != series.first.instance:
        raise UnfitError("its files have changed since they were read; predict it again")
    for tag in list(source.keys()):
        try:
            source[tag]
        except Exception:  # whatever pydicom cannot make of it
            del source[tag]
    dataset.copy_patient_and_study_information(source)
    # Its own texts are ASCII, which every character set has, unless a name is not.
    dataset.SpecificCharacterSet = source.get("SpecificCharacterSet") if ascii_names else "ISO_IR 192"
    if not dataset.SpecificCharacterSet:
        del dataset.SpecificCharacterSet
    dataset.ContentDate, dataset.ContentTime = _moment(source)
    del dataset.InstanceCreationDate, dataset.InstanceCreationTime
    for library_used in dataset.get("ContributingEquipmentSequence", ()):
        del library_used.ContributionDateTime


def _moment(source: Any) -> tuple[str, str]:
    """Date and time of the images' content, or of the next best that they have; the standard asks for one."""
    for name in _DATES:
        date, time = (str(source.get(f"{name}{part}", "")) for part in ("Date", "Time"))
        try:
            datetime.strptime(date, "%Y%m%d")
        except ValueError:
            continue
        return date, time if re.fullmatch(r"\d{6}(\.\d{1,6})?", time) else "000000"
    return "19000101", "000000"


def _identify(dataset: Any) -> None:
    """Give it UIDs made of all that it holds."""

    def organise(uid: str) -> None:
        for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
            item.DimensionOrganizationUID = uid

    organise(_NOT_YET)
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    instance, of_series, organisation = (
        f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{NAME} {what} {digest}').int}"
        for what in ("instance", "series", "dimensions")
    )
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.SeriesInstanceUID = of_series
    organise(organisation)


def _volume(dataset: Any) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Labels ``[columns, rows, slices]`` from the first slice that has a frame to the last, and their affine."""
    shared, each = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence
    planes = np.reshape(dataset.pixel_array, (len(each), dataset.Rows, dataset.Columns))
    values = _labels(dataset)

    def group(frame: Any, name: str) -> Any:
        return (frame if name in frame else shared)[name].value[0]

    cosines = {tuple(map(float, group(frame, "PlaneOrientationSequence").ImageOrientationPatient)) for frame in each}
    if len(cosines) != 1:
        raise UnfitError("its frames have several directions; write a segmentation of each")
    try:
        row, column = directions(cosines.pop())
    except GeometryError as error:
        raise UnfitError(str(error)) from None
    measures = group(each[0], "PixelMeasuresSequence")
    places = np.array([group(frame, "PlanePositionSequence").ImagePositionPatient for frame in each], np.float64)
    step, index = _steps(places, np.cross(row, column), measures)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * float(measures.PixelSpacing[1]), column * float(measures.PixelSpacing[0])
    affine[:3, 2], affine[:3, 3] = step, places[index.argmin()]
    labels = np.zeros((index.max() + 1, dataset.Rows, dataset.Columns), np.uint8)
    for frame, plane, place in zip(each, planes, index, strict=True):
        value = values[int(group(frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)]
        inside = plane > 0
        if labels[place][inside].any():
            raise UnfitError("its segments overlap, and a voxel can have one label; write one segment for each voxel")
        labels[place][inside] = value
    return labels.transpose(2, 1, 0), TO_RAS @ affine


def _steps(
    places: NDArray[np.float64], normal: NDArray[np.float64], measures: Any
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """From a slice to the next, and the number of each frame's; slices without a frame are counted too."""
    along = places @ normal
    between = np.diff(np.unique(np.round(along, 3)))
    nearest = between.min() if between.size else 0
    apart = float(measures.get("SpacingBetweenSlices") or nearest or measures.get("SliceThickness") or 0)
    if apart <= 0:
        raise UnfitError("it does not say how far its slices are apart; write it with its SpacingBetweenSlices")
    index = np.rint((along - along.min()) / apart).astype(np.intp)
    last, first = along.argmax(), along.argmin()
    step = (places[last] - places[first]) / index.max() if index.max() else normal * apart
    off = np.linalg.norm(places - places[first] - index[:, None] * step, axis=1)
    if off.max() > NEAR * apart:
        raise UnfitError("its frames do not lie on an even grid; write it on the grid of its image")
    return step, index


def _labels(dataset: Any) -> dict[int, int]:
    """The label of each segment, by its number."""
    own = dataset.get("Manufacturer") == NAME
    labels = {}
    for segment in dataset.SegmentSequence:
        match = _LABEL.fullmatch(str(segment.get("SegmentDescription", ""))) if own else None
        value = int(match[1]) if match else int(segment.SegmentNumber)
        if not 0 < value <= MOST_LABEL:
            raise UnfitError(
                f"a segment has the number {value}, and labels end at {MOST_LABEL}; number its segments anew"
            )
        labels[int(segment.SegmentNumber)] = value
    return labels


def _onto(grid: Grid, labels: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The same labels on a grid that has their voxels among its own."""
    shape, image = grid
    mapping = np.linalg.inv(image) @ affine
    turn = _AXES.io_orientation(mapping)
    if np.isnan(turn).any():
        raise UnfitError("it lies across its image; write it on the grid of its image")
    turned = _AXES.apply_orientation(labels, turn)
    place = mapping @ _AXES.inv_ornt_aff(turn, labels.shape)
    start = np.rint(place[:3, 3]).astype(int)
    corners = np.array(list(product(*((0, side - 1) for side in turned.shape))))
    off = np.abs(corners @ place[:3, :3].T + place[:3, 3] - start - corners).max()
    if off > NEAR or start.min() < 0 or (start + turned.shape > shape).any():
        raise UnfitError("it does not lie on the voxels of its image; write it on the grid of its image")
    whole = np.zeros(shape, np.uint8)
    whole[tuple(slice(at, at + side) for at, side in zip(start, turned.shape, strict=True))] = turned
    return whole
