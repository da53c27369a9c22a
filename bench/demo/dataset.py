"""Writes made-up cases as a folder: bodies in the quiz layout, heads in nnU-Net's."""

import errno
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bench.demo.brain import CHANNELS, REGIONS, DrawnHead, draw_head
from bench.demo.case import FIRST_ID, DrawnCase, case_rng, draw_case

COUNTS: Mapping[str, int] = {"train": 24, "validation": 36, "test": 4}
ABDOMEN_COUNTS: Mapping[str, int] = {"train": 8, "validation": 36, "test": 2}  # a case is ten times as large
BRAIN_COUNTS: Mapping[str, int] = {"train": 16, "validation": 36}
SEED = 0  # of every demo that is written
FILES = 1  # the stream of random numbers that choose how a case is stored
SLOPES, INTERCEPTS = (1.0, 0.5, 0.25, 0.125), (0.0, -1024.0, 100.0, -500.0)
NNUNET = {"train": "Tr", "validation": "Val", "test": "Ts"}  # after `images` and `labels`
_THREADS = "OMP_NUM_THREADS"  # of matrix products, as NumPy's libraries read it when they are loaded
FLOAT_ONE = 1.0000152587890625  # 1 + 2**-16: what a resampling tool left where a label 1 was meant


def write_demo(
    folder: Path, *, counts: Mapping[str, int] | None = None, kind: str = "pancreas", processes: int = 1
) -> Path:  # fmt: skip
    """Write ``counts`` cases of ``kind`` per split (train, validation, test) as a new ``folder`` and return it.

    They are drawn by so many ``processes``, and are the same by any number.

    The folder appears under its name only when it is complete. Raises FileExistsError when it exists and
    ValueError for an unknown split.
    """
    if counts is None:
        counts = {"abdomen": ABDOMEN_COUNTS, "brain": BRAIN_COUNTS}.get(kind, COUNTS)
    if unknown := set(counts) - set(FIRST_ID):
        raise ValueError(f"unknown splits: {', '.join(sorted(unknown))}; there are {', '.join(FIRST_ID)}")
    if folder.exists():
        raise FileExistsError(f"{folder} exists; remove it to draw the demo cases again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".unfinished", dir=folder.parent))
    try:
        numbers = [(split, index) for split, count in counts.items() for index in range(count)]
        _write_all(partial(_write_drawn, unfinished, kind), numbers, processes)
        if kind == "brain":
            _write_dataset_json(unfinished, counts["train"])
        unfinished.chmod(0o755)  # mkdtemp's 0o700 would keep other users out of the demo
        unfinished.rename(folder)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not (isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)):
            raise  # else another process has written the same cases meanwhile
    return folder


def _write_all(write: Callable[[tuple[str, int]], None], numbers: Sequence[tuple[str, int]], processes: int) -> None:
    """Each case is drawn from a seed of its own, so that it is the same in whatever process."""
    if processes == 1:
        for number in numbers:
            write(number)
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_ignore_interrupts)
    try:
        with _one_thread_each():
            written = pool.map(write, numbers)
        for _ in written:
            pass
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have the processes that begin within it multiply matrices in one thread: with more they wait for each other."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_THREADS)
        if before is not None:
            os.environ[_THREADS] = before


def _ignore_interrupts() -> None:
    """That of the terminal is for the parent, which then ends the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_drawn(root: Path, kind: str, number: tuple[str, int]) -> None:
    split, index = number
    rng = case_rng(split, index, SEED, FILES)
    if kind == "brain":
        _write_volumes(_head_volumes(root, split, draw_head(split, index, seed=SEED), rng))
    else:
        _write_case(root, split, draw_case(split, index, seed=SEED, kind=kind), rng)


def _write_case(root: Path, split: str, case: DrawnCase, rng: np.random.Generator) -> None:
    affine = _affine(case.spacing, np.round(rng.uniform((40, -60, -300), (90, -10, 300)), 2))
    _write_volumes(_volumes(root, split, case, affine, rng))


def _affine(spacing: tuple[float, float, float], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """With x to the left and y to the back."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = origin
    return affine


def _write_volumes(volumes: Iterator[tuple[Path, Any]]) -> None:
    for path, volume in volumes:
        path.parent.mkdir(parents=True, exist_ok=True)
        volume.header.set_xyzt_units("mm", "sec")
        volume.to_filename(path)


def _volumes(
    root: Path, split: str, case: DrawnCase, affine: NDArray[np.float64], rng: np.random.Generator
) -> Iterator[tuple[Path, Any]]:
    image = _stored_image(case, affine, rng)
    if split == "test":
        yield root / split / f"quiz_{case.id}_0000.nii.gz", image
        return
    folder, name = root / split / f"subtype{case.subtype}", f"quiz_{case.subtype}_{case.id}"
    yield folder / f"{name}_0000.nii.gz", image
    yield folder / f"{name}.nii.gz", _stored_mask(case, affine, rng)


def _head_volumes(
    root: Path, split: str, case: DrawnHead, rng: np.random.Generator
) -> Iterator[tuple[Path, Any]]:  # fmt: skip
    affine = _affine(case.spacing, np.round(rng.uniform((60, 70, -90), (100, 110, -50)), 2))
    for channel, image in enumerate(case.images):
        path = root / f"images{NNUNET[split]}" / f"brain_{case.id}_{channel:04d}.nii.gz"
        yield path, _nifti(np.round(image).astype(np.int16), affine)
    yield root / f"labels{NNUNET[split]}" / f"brain_{case.id}.nii.gz", _nifti(case.labels, affine)


def _write_dataset_json(root: Path, cases: int) -> None:
    """As nnU-Net describes a region-based data set."""
    labels = {"background": 0} | {
        name: list(values) if len(values) > 1 else values[0] for name, values in REGIONS.items()
    }
    held = {
        "channel_names": dict(enumerate(CHANNELS)),
        "labels": labels,
        "regions_class_order": [values[0] for values in REGIONS.values()],
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")


def _stored_image(case: DrawnCase, affine: NDArray[np.float64], rng: np.random.Generator) -> Any:
    """The image as int16 with a slope and an intercept of its own."""
    slope, intercept = float(rng.choice(SLOPES)), float(rng.choice(INTERCEPTS))
    stored = np.clip(np.round((case.image - intercept) / slope), -32768, 32767).astype(np.int16)
    return _nifti(stored, affine, slope, intercept)


def _stored_mask(case: DrawnCase, affine: NDArray[np.float64], rng: np.random.Generator) -> Any:
    """The mask in one of the three ways met in the field: exact bytes, scaled floats or inexact floats."""
    storage = rng.choice(["bytes", "scaled", "floats"], p=[0.2, 0.4, 0.4])
    if storage == "bytes":
        return _nifti(case.labels, affine)
    if storage == "scaled":
        return _nifti(case.labels.astype(np.float64), affine, FLOAT_ONE, 0.0)
    return _nifti(case.labels * FLOAT_ONE, affine)


def _nifti(stored: NDArray[np.generic], affine: NDArray[np.float64], slope: float = 1.0, intercept: float = 0.0) -> Any:
    volume: Any = nib.Nifti1Image(stored, affine)  # type: ignore[no-untyped-call]  # nibabel annotates little
    volume.header.set_slope_inter(slope, intercept)  # nibabel writes the values as they are when these are set
    return volume
