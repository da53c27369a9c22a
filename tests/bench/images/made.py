"""Run directories with real files: images, truth, and masks of two variants, scored as `bench run` scores them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension

from bench.accuracy import score
from bench.data.volume import read_image
from bench.data.write import write_mask
from reports.records.record import Case, TaskRecord
from reports.records.store import Run, write_run
from tests.bench.data.dicom.made import Made
from tests.reports.factory import BASELINE, TASK, Candidate, make_run

VARIANT = "openvino-int8"
SHAPE = (48, 40, 24)
SPACING_MM = (1.0, 1.0, 2.0)
AFFINE = np.array([[-1.0, 0, 0, 90], [0, -1.0, 0, -30], [0, 0, 2.0, -200], [0, 0, 0, 1]])
TISSUE_HU, AROUND_HU = 60, -90
PATIENT = "DOE^JANE"
LABELS = {"background": 0, "pancreas": 1, "lesion": 2}

Masks = tuple[np.ndarray, np.ndarray, np.ndarray]


def ball(centre: tuple[float, ...], radius_mm: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Voxels within a ball; `centre` in voxels."""
    grid = np.indices(shape).T - centre
    return (((grid * SPACING_MM) ** 2).sum(-1) <= radius_mm**2).T


def masks(number: int, shape: tuple[int, ...] = SHAPE) -> Masks:
    """Truth, baseline and variant: of the variant's mask a side of the organ is missing, and one is added."""
    x, y, z = (side / 2 for side in shape)
    truth = ball((x, y, z), 9, shape).astype(np.uint8)
    truth[ball((x, y, z), 3, shape)] = 2
    baseline = truth.copy()
    variant = truth.copy()
    variant[ball((x - 8, y, z), 3 + number, shape)] = 0
    variant[ball((x + 9, y, z), 4 + number, shape) & (variant == 0)] = 1
    return truth, baseline, variant


def image_of(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Noisy tissue where there is a label, fat around it."""
    noise = np.random.default_rng(seed).normal(0, 12, truth.shape)
    return np.where(truth > 0, TISSUE_HU, AROUND_HU).astype(np.float64) + 30 * (truth == 2) + noise


def nifti(voxels: np.ndarray, affine: np.ndarray = AFFINE) -> nib.Nifti1Image:
    """With the patient's name wherever a header has room for words."""
    image = nib.Nifti1Image(voxels, affine)
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = PATIENT
    image.header.extensions.append(Nifti1Extension("comment", PATIENT.encode()))
    return image


def write_made_run(
    folder: Path,
    data: Path,
    cases: int = 2,
    *,
    of: Callable[[int], Masks] = masks,
    channels: int = 1,
    task: TaskRecord = TASK,
    flips: int = 0,
    affine: np.ndarray = AFFINE,
) -> Run:
    """A run in `folder` of `cases` in `data`; each case changes more than the one before."""
    run = make_run({VARIANT: Candidate(3.0, flips=flips)}, cases=cases, rounds=1)
    shape = of(0)[0].shape
    task = replace(task, labels=task.labels or LABELS, channels=tuple(f"MR {i}" for i in range(channels)))
    made = []
    for number, case in enumerate(run.record.cases):
        truth, baseline, variant = of(number)
        images = [data / f"{case.name}_{channel:04}.nii.gz" for channel in range(channels)]
        own = replace(
            case, image=str(images[0]), further_channels=tuple(map(str, images[1:])),
            mask=str(data / f"{case.name}.nii.gz"), shape=shape, spacing_mm=SPACING_MM,
        )  # fmt: skip
        data.mkdir(parents=True, exist_ok=True)
        for channel, path in enumerate(images):
            nib.save(nifti(image_of(truth, number).astype(np.int16) + 100 * channel, affine), path)
        nib.save(nifti(truth, affine), own.mask)
        for name, labels in ((BASELINE, baseline), (VARIANT, variant)):
            path = prediction(folder, name, own)
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nifti(labels, affine), path)
        made.append(own)
    return _written(folder, run, tuple(made), task)


def write_dicom_run(folder: Path, data: Path) -> Run:
    """A run of one case, a DICOM series with the name of a patient in it."""
    run = make_run({VARIANT: Candidate(3.0)}, cases=1, rounds=1)
    truth, baseline, variant = masks(0)
    series = Made(spacing=(1.0, 1.0), apart=2.0).write(data / "series", (image_of(truth) + 1024).astype(np.uint16))
    case = replace(
        run.record.cases[0], image=str(series), mask=None, shape=SHAPE, spacing_mm=SPACING_MM, further_channels=()
    )
    source = read_image([series]).nifti
    for name, labels in ((BASELINE, baseline), (VARIANT, variant)):
        path = folder / "predictions" / name / f"{case.name}.dcm"
        path.parent.mkdir(parents=True)
        write_mask(path, labels, source, {1: "pancreas", 2: "lesion"})
    return _written(folder, run, (case,), replace(TASK, labels=LABELS), ".dcm")


def prediction(folder: Path, variant: str, case: Case, ending: str = ".nii.gz") -> Path:
    return folder / "predictions" / variant / f"{case.name}{ending}"


def _written(folder: Path, run: Run, cases: tuple[Case, ...], task: TaskRecord, ending: str = ".nii.gz") -> Run:
    """The run with these cases, and the scores that their files have."""
    variants = []
    for variant in run.variants:
        scores = [
            score(
                case, run.record.settings, task, (), prediction(folder, variant.name, case, ending),
                prediction(folder, BASELINE, case, ending), old.subtype, old.baseline_subtype,
            )
            for case, old in zip(cases, variant.scores, strict=True)
        ]  # fmt: skip
        variants.append(replace(variant, scores=tuple(scores)))
    made = Run(replace(run.record, cases=cases, task=task), tuple(variants), folder)
    write_run(folder, made)
    return made
