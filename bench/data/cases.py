"""Cases of a data folder, in the quiz layout or the nnU-Net raw layout."""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.choices import SPLITS
from bench.data.class_table import read_class_tables
from bench.data.space import Space
from bench.data.volume import MaskValues, read_image, read_mask
from bench.errors import InputError
from models.task import MOST_LABEL, Task
from reports.records.record import Case

_IMAGE = re.compile(r"^(?P<name>.+)_0000\.nii(\.gz)?$", re.DOTALL)
_ENDING = re.compile(r"\.nii(\.gz)?$")
_SUBTYPE_FOLDER = re.compile(r"^subtype(?P<subtype>\d+)$")
# nnU-Net knows no validation folder of its own; these names are the ones in use.
_NNUNET = {
    "train": ("imagesTr", "labelsTr"),
    "validation": ("imagesVal", "labelsVal"),
    "test": ("imagesTs", "labelsTs"),
}


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case, not opened yet: its channels in their order, its mask, and its class."""

    name: str
    image_paths: tuple[Path, ...]
    mask_path: Path | None
    subtype: int | None

    @property
    def image_path(self) -> Path:
        """Of the first channel."""
        return self.image_paths[0]


def find_cases(root: Path, split: str) -> tuple[str, list[CaseFiles]]:
    """List the cases of `split` under `root`, sorted by name, with the layout's name (``quiz`` or ``nnunet``).

    Raises:
        InputError: no such folder, split or case.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give --data a folder in the quiz or nnU-Net raw layout")
    for layout, search in (("quiz", _quiz), ("nnunet", _nnunet)):
        cases = sorted(search(root, split), key=lambda case: case.name)
        if cases:
            _refuse_duplicates(cases)
            cases = _with_classes(root, layout, cases)
            _refuse_second_masks(cases)
            return layout, cases
    others = [s for s in SPLITS if s != split and (any(_quiz(root, s)) or any(_nnunet(root, s)))]
    remedy = f"it has {' and '.join(others)}: choose with --split" if others else _EXPECTED
    raise InputError(f"{root}: no cases of the split '{split}'; {remedy}")


_EXPECTED = "expected SPLIT/subtype*/NAME_0000.nii.gz (quiz) or imagesTr/NAME_0000.nii.gz (nnU-Net raw)"


def unused_volumes(root: Path, split: str, cases: list[CaseFiles]) -> list[Path]:
    """NIfTI files in the folders of the split that belong to none of its `cases`, relative to `root`.

    Masks without an image, further channels, cases in folders of another name.
    """
    used = {path for case in cases for path in (*case.image_paths, case.mask_path)}
    folders = [root / name for name in (split, *_NNUNET.get(split, ()))]
    files = {path for folder in folders for path in folder.rglob("*.nii*") if path not in used}
    relative = sorted(path.relative_to(root) for path in files)
    return [path for path in relative if path.name.endswith((".nii", ".nii.gz")) and "/." not in f"/{path}"]


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
        _refuse_channels(case, task)
        if subtypes and case.subtype is not None and case.subtype not in range(subtypes):
            known = f"the network tells {subtypes} apart, 0 to {subtypes - 1}"
            raise InputError(f"{case.image_path}: unknown subtype {case.subtype}; {known}: correct the class")
        volume = read_image(case.image_paths)
        space = Space.of(volume.nifti, case.image_path)
        if case.mask_path is not None:
            read_mask(case.mask_path, space, values)
        cases.append(
            Case(
                name=case.name,
                image=str(case.image_path),
                mask=None if case.mask_path is None else str(case.mask_path),
                subtype=case.subtype,
                shape=space.shape,
                spacing_mm=space.spacing_mm,
                further_channels=tuple(map(str, case.image_paths[1:])),
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
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quiz(root: Path, split: str) -> Iterator[CaseFiles]:
    for folder in [root / split, *sorted((root / split).glob("subtype*"))]:
        match = _SUBTYPE_FOLDER.match(folder.name)
        yield from _images(folder, folder, int(match["subtype"]) if match else None)


def _nnunet(root: Path, split: str) -> Iterator[CaseFiles]:
    images, labels = _NNUNET.get(split, (split, split))
    yield from _images(root / images, root / labels, None)


def declared_values(root: Path, task: Task) -> MaskValues | None:
    """What the values in the masks mean, as the ``dataset.json`` of nnU-Net's raw layout says; None without one.

    Raises:
        InputError: it is damaged, or names a label that the task does not know.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return values_by_name(held.get("labels") if isinstance(held, dict) else None, task)
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path}: {error}; correct it, since it says what the values in the masks mean") from None


def values_by_name(labels: object, task: Task) -> MaskValues:
    """What the values mean of masks whose labels have these names, by the task's own.

    A ``dataset.json`` of nnU-Net's first version or of the Medical Segmentation Decathlon names values, today's numbers
    names.

    Raises:
        ValueError: the task does not know a name, or a value is no number.
    """
    if not isinstance(labels, dict) or len(labels) < 2:
        raise ValueError("it names no labels")
    if all(isinstance(name, str) and str(value).isdecimal() for value, name in labels.items()):
        labels = {name: value for value, name in labels.items()}
    known = {_plain(name): value for name, value in task.labels.items()}
    known |= {_plain(other): task.labels[name] for name, others in task.synonyms.items() for other in others}
    known |= {} if task.ignore is None else {"ignore": task.ignore}
    values, names = {}, {}
    for name, value in labels.items():
        if not str(value).isdecimal() or int(value) > MOST_LABEL:
            raise ValueError(f"its label {str(value)[:40]!r} is no number up to {MOST_LABEL}")
        if _plain(name) not in known:
            named = ", ".join(list(task.labels)[:12])
            raise ValueError(f"its label {str(name)[:40]!r} is none of the task {task.name} ({named})")
        values[int(value)], names[int(value)] = known[_plain(name)], str(name)
    return MaskValues(values, names)


def _plain(name: object) -> str:
    return " ".join(str(name).replace("_", " ").casefold().split())


def _images(folder: Path, masks: Path, subtype: int | None) -> Iterator[CaseFiles]:
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        match = _IMAGE.match(path.name)
        if match is None or path.name.startswith("."):
            continue
        name = match["name"]
        mask = next((m for m in (masks / f"{name}.nii.gz", masks / f"{name}.nii") if m.is_file()), None)
        if mask is not None or folder != masks or not _is_mask(path.name, names):
            yield CaseFiles(name, (path, *_further_channels(path, name, names)), mask, subtype)


def _further_channels(first: Path, name: str, names: Collection[str]) -> Iterator[Path]:
    """The files ``NAME_0001``, ``NAME_0002`` and so on beside the first channel; `names` are those of all files."""
    for number in itertools.count(1):
        files = (f"{name}_{number:04}{ending}" for ending in (".nii.gz", ".nii"))
        file = next((file for file in files if file in names and not _is_mask(file, names)), None)
        if file is None:
            return
        yield first.with_name(file)


def _is_mask(file: str, names: Collection[str]) -> bool:
    """Whether a file that is named like a channel may be the mask of a case whose name ends like one.

    As ``a_0000.nii.gz`` beside ``a_0000_0000.nii.gz``; `names` are those of the files beside it.
    """
    name = _ENDING.sub("", file)
    return any(f"{name}_0000{ending}" in names for ending in (".nii.gz", ".nii"))


def _with_classes(root: Path, layout: str, cases: list[CaseFiles]) -> list[CaseFiles]:
    """In the quiz layout the folders give the classes, and a table must not say otherwise."""
    try:
        tables = read_class_tables(root, {case.name for case in cases})
    except InputError:
        if layout == "quiz":  # it may be a table of something else
            return cases
        raise
    for case in cases:
        listed = tables.classes.get(case.name)
        if None not in (case.subtype, listed) and listed != case.subtype:
            raise InputError(
                f"{tables.sources[case.name]}: gives {case.name} class {listed}, and it lies in "
                f"{case.image_path.parent}; correct the one that is wrong"
            )
    if layout == "quiz":
        return cases
    return [replace(case, subtype=tables.classes.get(case.name)) for case in cases]


def _refuse_channels(case: CaseFiles, task: Task) -> None:
    wanted, held = len(task.channels), len(case.image_paths)
    if held != wanted:
        names = ", ".join(task.channels)
        raise InputError(
            f"{case.image_path}: {case.name} has {held} channel{'s' * (held != 1)}, and the network takes {wanted} "
            f"({names}); give a file NAME_0000 to NAME_{wanted - 1:04} for each"
        )


def _refuse_duplicates(cases: list[CaseFiles]) -> None:
    for before, after in itertools.pairwise(cases):
        if before.name == after.name:
            raise InputError(
                f"{after.image_path}: a second case named {after.name} beside {before.image_path}; rename one"
            )


def _refuse_second_masks(cases: list[CaseFiles]) -> None:
    for case in cases:
        if case.mask_path is not None and case.mask_path.suffix == ".gz":
            other = case.mask_path.with_suffix("")
            if other.exists():
                raise InputError(f"{other}: a second mask of {case.name} beside {case.mask_path}; remove one")
