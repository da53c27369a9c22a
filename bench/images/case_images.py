"""Cases of a run as the page of its report shows them: image, truth, both masks, and where these differ."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import compared_box
from bench.data.dicom.files import is_series
from bench.data.space import Space
from bench.data.volume import MaskValues, Volume, read_image, read_mask
from bench.errors import InputError
from bench.images.anonymous import packed
from bench.images.view import View, any_label, difference, focus
from bench.images.window import to_shades, window
from bench.schedule.run_directory import RunDirectory
from reports.analysis.cases import CaseChange
from reports.records.record import Case, RunRecord, TaskRecord
from reports.records.store import Run
from reports.render.cases.images import BASELINE, DIFFERENCE, TRUTH, VARIANT, CaseImages, MissingCase, PackedCase

_THREADS = 2  # numpy, gunzip and gzip let go of Python's lock; each holds a whole volume in memory

Labels = NDArray[np.uint8]


def case_images(run: Run, changes: Sequence[CaseChange], variant: str, max_bytes: int) -> CaseImages:
    """Those of the cases in `changes`, in their order, each read when the page asks for it.

    `max_bytes` is the size of the whole page.
    """
    record, cases = run.record, {case.name: case for case in run.record.cases}
    folder = run.folder or Path()
    packs = _in_order((record, folder, variant, cases[change.case]) for change in changes)
    task = record.task
    names = {value: name for name, value in task.labels.items() if value}
    if task.ignore is not None:
        names[task.ignore] = "ignored"
    return CaseImages(packs=packs, labels=names, max_bytes=max_bytes)


def _in_order(wanted: Iterable[tuple[RunRecord, Path, str, Case]]) -> Iterator[PackedCase | MissingCase]:
    """The packs of the cases, a few of which are made ahead: a page with no more room stops asking."""
    todo = iter(wanted)
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[PackedCase | MissingCase]] = deque()
        while True:
            ahead.extend(pool.submit(_pack, *each) for each in islice(todo, _THREADS + 1 - len(ahead)))
            if not ahead:
                return
            yield ahead.popleft().result()


def _pack(record: RunRecord, folder: Path, variant: str, case: Case) -> PackedCase | MissingCase:
    try:
        return _packed(record, folder, variant, case)
    except _NotShownError as missing:
        return MissingCase(case=case.name, reason=str(missing))


class _NotShownError(Exception):
    """Why a case has no images: words for the page, which holds no paths."""


def _packed(record: RunRecord, folder: Path, variant: str, case: Case) -> PackedCase:
    volume = _image(case)
    space, task = volume.space, record.task
    truth_values = _values(task, record.data.mask_values)
    box, directory = compared_box(case, record.settings), RunDirectory(folder)
    masks = {
        BASELINE: _mask("the baseline's mask", directory.prediction(record.baseline, case), space, _values(task), box),
        VARIANT: _mask("the variant's mask", directory.prediction(variant, case), space, _values(task), box),
    }
    if case.mask is not None:
        masks[TRUTH] = _mask("the mask of its truth", Path(case.mask).expanduser(), space, truth_values, box)
    ignored = 0 if task.ignore is None else task.ignore
    view = View.of(space, any_label([np.where(mask == ignored, 0, mask) for mask in masks.values()]))
    shown = {name: view.middle(mask) for name, mask in masks.items()}
    shown[DIFFERENCE] = view.largest(difference(masks[BASELINE], masks[VARIANT]))
    affine, labelled = view.affine(space.affine), any_label(list(shown.values()))
    at = focus([shown[DIFFERENCE], shown[VARIANT], shown[BASELINE]])
    return PackedCase(
        case=case.name,
        channels={
            name: _channel(view.mean(intensities), labelled, affine)
            for name, intensities in zip(_channel_names(task, volume), np.asarray(volume.intensities), strict=True)
        },
        masks={name: packed(mask, affine) for name, mask in shown.items()},
        focus_mm=tuple(float(mm) for mm in (affine @ [*at, 1.0])[:3]),
        note=_note(view, space, labelled.shape),
    )


def _image(case: Case) -> Volume:
    paths = [Path(image).expanduser() for image in case.images]
    if not all(path.is_file() or is_series(path) for path in paths):
        raise _NotShownError("its image is not where the run read it")
    try:
        return read_image(paths)
    except InputError as error:
        raise _NotShownError(f"its image cannot be read: {_without_path(error, paths)}") from None


def _mask(what: str, path: Path, space: Space, values: MaskValues, box: tuple[slice, ...]) -> Labels:
    """The labels in `box`, outside of which nothing was compared; 0 elsewhere."""
    if not path.is_file():
        raise _NotShownError(f"{what} is not there")
    try:
        mask = read_mask(path, space, values)
    except InputError as error:
        raise _NotShownError(f"{what} cannot be read: {_without_path(error, [path])}") from None
    compared = np.zeros_like(mask)
    compared[box] = mask[box]
    return compared


def _without_path(error: InputError, paths: Sequence[Path]) -> str:
    """What the error says, without the folders of the file; a path may stand in it cut short."""
    words = str(error)
    for path in paths:
        text = str(path)
        words = words.removeprefix(f"{text}: ").replace(text, path.name)
        beginnings = (text[:end] for end in range(len(text), 1, -1))
        cut = next((beginning for beginning in beginnings if beginning in words), None)
        words = words if cut is None else words.replace(cut, "...")
    return words


def _values(task: TaskRecord, pairs: Iterable[tuple[int, int]] = ()) -> MaskValues:
    """Those of masks; any at all in runs made before the task's labels were recorded."""
    if task.labels:
        return MaskValues.of(task, pairs)
    return MaskValues({value: value for value in range(256)}, {})


def _channel_names(task: TaskRecord, volume: Volume) -> list[str]:
    number = len(volume.intensities)
    if len(task.channels) == number and len(set(task.channels)) == number:
        return list(task.channels)
    return [f"channel {i}" for i in range(number)] if number > 1 else ["image"]


def _channel(intensities: NDArray[np.float32], labelled: NDArray[np.bool_], affine: NDArray[np.float64]) -> bytes:
    voxels, slope, intercept = to_shades(intensities, *window(intensities, labelled))
    return packed(voxels, affine, slope, intercept)


def _note(view: View, space: Space, shape: tuple[int, ...]) -> str:
    """What part of the volume is shown, and how finely."""
    sides = " x ".join(map(str, shape))
    if not view.coarser:
        return f"{sides} voxels around the labels, as fine as in the file"
    spacing = " x ".join(f"{mm * factor:.3g}" for mm, factor in zip(space.spacing_mm, view.factors, strict=True))
    blocks = " x ".join(map(str, view.factors))
    return (
        f"{sides} voxels of {spacing} mm around the labels, each of {blocks} in the file; it is shown as changed where "
        "one of them is"
    )
