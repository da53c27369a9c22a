"""The cases of a data set: their files, classes and content, and what their masks hold."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import layouts
from bench.data.class_table import Names, read_class_tables
from bench.data.datalist import lists_cases
from bench.data.dataset_json import mask_values, read_json, refuse_channels
from bench.data.formats import ending_of, files_of, stem_of
from bench.data.layouts import CaseFiles
from bench.data.space import Space
from bench.data.volume import MaskValues, open_channels, read_image, read_mask
from bench.errors import InputError
from models.task import Task, TaskError
from reports.records.record import Case


def find_cases(root: Path, split: str, names: Names = ()) -> tuple[str, list[CaseFiles]]:
    """List the cases of `split` under `root`, sorted by name, with the name of their layout in `layouts`.

    Tables may call classes by `names`, in the order of the task; None where classes are not asked for.

    Raises:
        InputError: no such folder, split or case, or files that contradict each other.
    """
    layout, cases = layouts.listed(root, split)
    layouts.refuse_duplicates(cases)
    return layout, _with_classes(layouts.folder_of(root), layout, cases, names)


def check_cases(
    files: list[CaseFiles], task: Task, values: MaskValues, done: Callable[[], None] = lambda: None
) -> list[Case]:
    """Read every image and mask once, so that a bad file stops the run before it starts.

    Cases must have the channels of the task, and classes be among its own; without any they are not looked at.

    Raises:
        InputError: the first file that cannot be used.
    """
    cases, subtypes = [], len(task.classes)
    for case in files:
        refuse_other_channels(case, len(task.channels), task.channels)
        if subtypes and case.subtype is not None and case.subtype not in range(subtypes):
            known = f"the network tells {subtypes} apart, 0 to {subtypes - 1}"
            raise InputError(f"{case.image_path}: unknown subtype {case.subtype}; {known}: correct the class")
        volume = read_image(case.image_paths)
        space = Space.of(volume.nifti, case.image_path)
        truth = None if case.mask_path is None else read_mask(case.mask_path, space, values)
        cases.append(
            Case(
                name=case.name,
                image=str(case.image_path),
                mask=None if case.mask_path is None else str(case.mask_path),
                subtype=case.subtype,
                shape=space.shape,
                spacing_mm=space.spacing_mm,
                further_channels=tuple(map(str, case.image_paths[1:])),
                mask_labels=None if truth is None else tuple(np.flatnonzero(np.bincount(truth.ravel())).tolist()),
            )
        )
        done()
    return cases


def fingerprint(cases: list[CaseFiles]) -> str:
    """Identify the content of cases: sha256 over names, classes and every file's bytes."""
    digest = hashlib.sha256()
    for case in cases:
        mask = "-" if case.mask_path is None else sha256_of(case.mask_path)
        images = " ".join(map(sha256_of, case.image_paths))
        digest.update(f"{case.name} {case.subtype} {images} {mask}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Hash a file's bytes; of a MetaImage's header, its voxels' with it; of a DICOM series, its slices' in order.

    Raises:
        InputError: it cannot be read.
    """
    try:
        first, *others = files_of(path)
        with first.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); put it back, or take it out of the list"
        ) from None
    for other in others:
        digest.update(sha256_of(other).encode())
    return digest.hexdigest()


def declared_values(root: Path, task: Task) -> MaskValues | None:
    """What the values in the masks mean, as the JSON of the data set says; None where it names no labels.

    Its channels are looked at too.

    Raises:
        InputError: it is damaged, or contradicts the task.
    """
    path = layouts.list_file(root)
    if not path.is_file():
        return None
    held = read_json(path)
    try:
        refuse_channels(held, task)
        return None if "labels" not in held and lists_cases(held) else mask_values(held, task)
    except TaskError as error:
        raise InputError(f"{path}: {error}") from None


def _with_classes(root: Path, layout: str, cases: list[CaseFiles], names: Names) -> list[CaseFiles]:
    """In the quiz layout the folders give the classes, and a table must not say otherwise."""
    try:
        tables = read_class_tables(root, {case.name for case in cases}, names)
    except InputError:
        if layout == layouts.QUIZ:  # it may be a table of something else
            return cases
        raise
    for case in cases:
        listed = tables.classes.get(case.name)
        if None not in (case.subtype, listed) and listed != case.subtype:
            raise InputError(
                f"{tables.sources[case.name]}: gives {case.name} class {listed}, and it lies in "
                f"{case.image_path.parent}; correct the one that is wrong"
            )
    if layout == layouts.QUIZ:
        return cases
    return [replace(case, subtype=tables.classes.get(case.name)) for case in cases]


def refuse_other_channels(case: CaseFiles, wanted: int, names: Sequence[str] = ()) -> list[Any]:
    """Refuse a case that has more or fewer channels than the network takes; its voxels are not read.

    Returned are its channels, as of `open_channels`.

    `names` are those of the network's channels.

    Raises:
        InputError: so it is, or as of `open_channels`.
    """
    niftis = open_channels(case.image_paths)
    held = len(niftis)
    if held == wanted:
        return niftis
    network = f"the network takes {wanted}" + (f" ({', '.join(names)})" if names else "")
    first = case.image_path
    if len(case.image_paths) > wanted:
        raise InputError(f"{case.image_paths[wanted]}: channel {wanted} of {case.name}, and {network}; take it out")
    if held < wanted and stem_of(first.name) == f"{case.name}_0000":
        missing = first.with_name(f"{case.name}_{held:04}{ending_of(first.name)}")
        raise InputError(f"{missing}: no such file, but {network}; put {names[held] if names else 'the channel'} there")
    raise InputError(f"{first}: {case.name} has {held} channel{'s' * (held != 1)}, and {network}; give it these")
