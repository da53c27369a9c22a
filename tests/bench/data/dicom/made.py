"""DICOM series made by pydicom, of volumes that lie anywhere and slices that are stored in any way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT, MR, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2.1"
PATIENT, BORN, ID = "Muster^Erika^^Dr.", "19641103", "K-4711-0815"
SHAPE = (7, 6, 5)
AXIAL = (1, 0, 0, 0, 1, 0)

Change = Callable[[int, Dataset], Any]


@dataclass(frozen=True)
class Made:
    """Where the slices of a series lie, and how their values are stored.

    Attributes:
        cosines: of rows and columns. step: from a slice to the next, in mm; None for `apart` along the normal.
        spacing: between rows, then between columns.
        slopes, intercepts: of the slices, over and over.
        order: in which the slices have names and numbers; None for that of their positions.
    """

    kind: str = CT
    cosines: Sequence[float] = AXIAL
    spacing: tuple[float, float] = (0.8, 0.7)
    apart: float = 2.5
    step: Sequence[float] | None = None
    origin: Sequence[float] = (-101.25, 12.5, 1007.0)
    slopes: Sequence[float] = (1.0,)
    intercepts: Sequence[float] = (-1024.0,)
    order: Sequence[int] | None = None
    syntax: str = ExplicitVRLittleEndian
    series: str = "1.2.826.0.1.3680043.8.498.1"

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.cosines[:3], self.cosines[3:])

    @property
    def steps(self) -> np.ndarray:
        return self.normal * self.apart if self.step is None else np.array(self.step)

    def place(self, index: int) -> np.ndarray:
        return np.array(self.origin) + index * self.steps

    def affine(self) -> np.ndarray:
        """To mm to the right, to the front, up, as the standard's equation C.7.6.2.1-1 gives it."""
        affine = np.eye(4)
        affine[:3, 0] = np.array(self.cosines[:3]) * self.spacing[1]
        affine[:3, 1] = np.array(self.cosines[3:]) * self.spacing[0]
        affine[:3, 2], affine[:3, 3] = self.steps, self.origin
        return np.diag([-1, -1, 1, 1]) @ affine

    def values(self, stored: np.ndarray) -> np.ndarray:
        """Of stored ``[column, row, slice]``."""
        count = stored.shape[2]
        slopes, intercepts = (np.resize(each, count) for each in (self.slopes, self.intercepts))
        return stored * slopes + intercepts

    def write(self, folder: Path, stored: np.ndarray, change: Change = lambda _index, _dataset: None) -> Path:
        """A file for each slice; `change` is called with each, and leaves out those for which it gives False."""
        folder.mkdir(parents=True, exist_ok=True)
        count = stored.shape[2]
        order = range(count) if self.order is None else self.order
        for number, index in enumerate(order):
            dataset = self._slice(stored[..., index].T, index, number)
            if change(index, dataset) is not False:
                dataset.save_as(folder / f"IM{number:04}", enforce_file_format=True)
        return folder

    def write_frames(self, path: Path, stored: np.ndarray, change: Change = lambda _index, _dataset: None) -> Path:
        """All slices in one enhanced CT."""
        path.parent.mkdir(parents=True, exist_ok=True)
        count = stored.shape[2]
        order = range(count) if self.order is None else self.order
        made = replace(self, kind=ENHANCED_CT)
        dataset = made._slice(stored[..., 0].T, 0, 0)
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            delattr(dataset, name)
        del dataset.RescaleSlope, dataset.RescaleIntercept
        shared = _of(
            PlaneOrientationSequence=_of(ImageOrientationPatient=_written(self.cosines)),
            PixelMeasuresSequence=_of(PixelSpacing=_written(self.spacing), SliceThickness=str(self.apart)),
        )
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = [
            _of(
                PlanePositionSequence=_of(ImagePositionPatient=_written(self.place(index))),
                PixelValueTransformationSequence=_of(
                    RescaleSlope=str(np.resize(self.slopes, count)[index]),
                    RescaleIntercept=str(np.resize(self.intercepts, count)[index]),
                    RescaleType="HU",
                ),
            )
            for index in order
        ]
        dataset.NumberOfFrames = count
        dataset.PixelData = np.ascontiguousarray(stored[..., list(order)].T).tobytes()
        change(0, dataset)
        dataset.save_as(path, enforce_file_format=True)
        return path

    def _slice(self, plane: np.ndarray, index: int, number: int) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = self.kind, f"{self.series}.{index + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.9", self.series
        dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.7"
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PATIENT, ID, BORN
        dataset.PatientSex, dataset.PatientAge = "F", "061Y"
        dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "A-99", "S-1", "Huber^Max"
        dataset.StudyDate, dataset.StudyTime = "20240229", "101112"
        dataset.ContentDate, dataset.ContentTime = "20240301", "131415.5"
        dataset.SeriesDescription = f"Abdomen {PATIENT}"
        dataset.Modality = "MR" if self.kind == MR else "CT"
        dataset.SeriesNumber, dataset.InstanceNumber = 3, 1000 - number
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient = _written(self.place(index))
        dataset.ImageOrientationPatient = _written(self.cosines)
        dataset.PixelSpacing, dataset.SliceThickness = _written(self.spacing), str(self.apart)
        dataset.SliceLocation = str(-index)
        for name, values in (("RescaleSlope", self.slopes), ("RescaleIntercept", self.intercepts)):
            setattr(dataset, name, repr(float(values[index % len(values)])))
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = plane.shape
        bits = 8 * plane.dtype.itemsize
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelRepresentation = int(plane.dtype.kind == "i")
        dataset.PixelData = np.ascontiguousarray(plane).tobytes()
        if self.syntax != ExplicitVRLittleEndian:
            _pack(dataset, self.syntax)
        return dataset


def _pack(dataset: Dataset, syntax: str) -> None:
    if pydicom.uid.UID(syntax).is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
        return
    if not pydicom.uid.UID(syntax).is_little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = syntax


def _of(**elements: Any) -> Dataset:
    """A data set; those that are named sequences hold one item."""
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, [value] if name.endswith("Sequence") else value)
    return dataset


def _written(values: Sequence[float]) -> list[str]:
    """As decimal strings of at most 16 characters."""
    return [f"{float(value):.10g}"[:16] for value in values]


def noise(shape: tuple[int, ...] = SHAPE, dtype: Any = np.int16, seed: int = 0) -> np.ndarray:
    low = 0 if np.dtype(dtype).kind == "u" else -100
    return np.random.default_rng(seed).integers(low, 120, shape).astype(dtype)


def oblique(seed: int) -> tuple[float, ...]:
    """Two perpendicular directions, of any handedness."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return tuple(np.round(np.concatenate([turn[:, 0], turn[:, 1]]), 9).tolist())


def labels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """That no turn leaves as they are."""
    made = np.zeros(shape, np.uint8)
    made[1:4, 2:6, 1:3], made[1, 3, 1], made[5, 0, 3] = 1, 2, 1
    return made
