"""Where cases lie: the quiz layout, nnU-Net's raw one, the Medical Segmentation Decathlon's, or a list of one's own."""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.choices import SPLITS
from bench.data.datalist import entries_of
from bench.data.dataset_json import read_json
from bench.data.formats import FORMATS, ending_of, stem_of
from bench.errors import InputError

QUIZ, NNUNET, DECATHLON, DATALIST = "quiz", "nnunet", "decathlon", "datalist"

_IMAGE = re.compile(r"^(?P<name>.+)_0000$", re.DOTALL)
_CHANNEL = re.compile(r"^(?P<name>.+)_(?P<number>\d{4})$", re.DOTALL)
_SUBTYPE_FOLDER = re.compile(r"^subtype(?P<subtype>\d+)$")
# nnU-Net knows no validation folder of its own; these names are the ones in use.
_NNUNET = {
    "train": ("imagesTr", "labelsTr"),
    "validation": ("imagesVal", "labelsVal"),
    "test": ("imagesTs", "labelsTs"),
}
_EXPECTED = (
    "expected SPLIT/subtype*/NAME_0000.nii.gz (quiz), imagesTr/NAME_0000.nii.gz (nnU-Net raw) or a dataset.json with "
    "the lists training, validation, test (Medical Segmentation Decathlon)"
)


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case, not opened yet: its channels in their order, its mask, and its class.

    `fault`: why these files are not all of the case, in one line; empty where they are.
    """

    name: str
    image_paths: tuple[Path, ...]
    mask_path: Path | None
    subtype: int | None
    fault: str = ""

    @property
    def image_path(self) -> Path:
        """Of the first channel, or of all."""
        return self.image_paths[0]


def folder_of(root: Path) -> Path:
    """Where the files beside the cases lie; `root` is a folder, or a list in JSON."""
    return root if root.is_dir() else root.parent


def list_file(root: Path) -> Path:
    """The JSON that describes the data set; it need not be there."""
    return root / "dataset.json" if root.is_dir() else root


def listed(root: Path, split: str) -> tuple[str, list[CaseFiles]]:
    """The cases of `split`, sorted by name, and the name of their layout.

    Raises:
        InputError: no such folder, file, split or case.
    """
    if not root.is_dir() and not (root.is_file() and root.suffix == ".json"):
        raise InputError(
            f"{root}: no such folder; give --data a folder in the quiz, nnU-Net raw or Decathlon layout, or a JSON "
            "file that lists the cases"
        )
    if there := in_layout(root, split):
        fault = next((case.fault for case in there[1] if case.fault), None)
        if fault is not None:
            raise InputError(fault)
        return there
    others = [s for s in SPLITS if s != split and any(any(search(root, s)) for search in _searches(root).values())]
    remedy = f"it has {' and '.join(others)}: choose with --split" if others else _EXPECTED
    raise InputError(f"{root}: no cases of the split '{split}'; {remedy}")


def in_layout(root: Path, split: str) -> tuple[str, list[CaseFiles]] | None:
    """As `listed`, but None where there are none, and with the cases whose channels are not all there.

    Raises:
        InputError: files that contradict each other in another way.
    """
    for layout, search in _searches(root).items():
        cases = sorted(search(root, split), key=lambda case: case.name)
        if cases:
            return layout, cases
    return None


def grouped(folder: Path, files: Collection[str]) -> Iterator[CaseFiles]:
    """The cases of images in `folder` that are called `files`, in no order: each is one, but for the channels of one.

    These are called ``NAME_0000``, ``NAME_0001`` and so on. ``NAME`` beside a ``NAME_0000`` is its mask, and no case.
    """
    names = {name for name in files if ending_of(name) and not name.startswith(".")}
    with_channels = list(_images(folder, folder, None, names))
    yield from with_channels
    taken = {case.name for case in with_channels}
    for file in names:
        stem = stem_of(file)
        channel = _CHANNEL.match(stem)
        if stem not in taken and (channel is None or channel["name"] not in taken):
            yield CaseFiles(stem, (folder / file,), None, None)


def unused_volumes(root: Path, split: str, cases: Iterable[CaseFiles]) -> list[Path]:
    """Images and masks in the folders of the split that belong to none of its `cases`, relative to `root`.

    Masks without an image, cases in folders of another name; none of a list, which says itself what belongs to it.
    """
    if not root.is_dir() or any(_decathlon(root, split)):
        return []
    return unused_below(root, [root / name for name in (split, *_NNUNET.get(split, ()))], cases)


def unused_below(root: Path, folders: Iterable[Path], cases: Iterable[CaseFiles]) -> list[Path]:
    """Images and masks in `folders` and below them that belong to none of the `cases`, relative to `root`."""
    used = {path for case in cases for path in (*case.image_paths, case.mask_path)}
    files = {path for folder in folders for path in folder.rglob("*") if ending_of(path.name) and path not in used}
    relative = sorted(path.relative_to(root) for path in files)
    return [path for path in relative if "/." not in f"/{path}"]


_Search = Callable[[Path, str], Iterable[CaseFiles]]


def _searches(root: Path) -> Mapping[str, _Search]:
    if not root.is_dir():
        return {DATALIST: _datalist}
    return {QUIZ: _quiz, DECATHLON: _decathlon, NNUNET: _nnunet}


def _quiz(root: Path, split: str) -> Iterator[CaseFiles]:
    for folder in [root / split, *sorted((root / split).glob("subtype*"))]:
        match = _SUBTYPE_FOLDER.match(folder.name)
        yield from _images(folder, folder, int(match["subtype"]) if match else None)


def _nnunet(root: Path, split: str) -> Iterator[CaseFiles]:
    images, labels = _NNUNET.get(split, (split, split))
    yield from _images(root / images, root / labels, None)


def _decathlon(root: Path, split: str) -> list[CaseFiles]:
    """Those whose files are called as they are listed: nnU-Net's first version lists cases without ``_0000``."""
    if not list_file(root).is_file():
        return []
    cases = _datalist(root, split)
    return cases if any(case.image_path.is_file() for case in cases) else []


def _datalist(root: Path, split: str) -> list[CaseFiles]:
    file = list_file(root)
    return [
        CaseFiles(entry.name, entry.image_paths, entry.mask_path, None)
        for entry in entries_of(file, read_json(file), split)
    ]


def _images(
    folder: Path, masks: Path, subtype: int | None, names: Collection[str] | None = None
) -> Iterator[CaseFiles]:
    """Cases of several channels, or of one that is called like the first of several; of the files called `names`."""
    if not folder.is_dir():
        return
    if names is None:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    stems, masks_of = {stem_of(name) for name in names if ending_of(name)}, _masks_in(masks)
    channels_of = _by_case(names, stems)
    for file in names:
        match = _IMAGE.match(stem_of(file)) if ending_of(file) else None
        if match is None:
            continue
        name = match["name"]
        mask = _only_mask(name, masks_of.get(name, []))
        if mask is not None or folder != masks or not _is_mask(file, stems):
            channels, fault = _channels(folder, file, name, channels_of.get(name, []))
            yield CaseFiles(name, tuple(folder / each for each in channels), mask, subtype, fault)


def _masks_in(folder: Path) -> dict[str, list[Path]]:
    """What may be a mask in a folder, by names without their endings, in the order of the formats."""
    order, by_stem = list(FORMATS), dict[str, list[Path]]()
    paths = [path for path in folder.iterdir() if ending_of(path.name)] if folder.is_dir() else []
    for path in sorted(paths, key=lambda path: (order.index(ending_of(path.name)), path.name)):
        by_stem.setdefault(stem_of(path.name), []).append(path)
    return by_stem


def _only_mask(name: str, paths: Iterable[Path]) -> Path | None:
    files = [path for path in paths if path.is_file()]
    if len(files) > 1:
        raise InputError(f"{files[1]}: a second mask of {name} beside {files[0]}; remove one")
    return files[0] if files else None


def _by_case(names: Collection[str], stems: Collection[str]) -> dict[str, list[tuple[int, str]]]:
    """Of each case the channels behind the first, with their numbers; looked for once, as there may be thousands."""
    channels: dict[str, list[tuple[int, str]]] = {}
    for file in sorted(names):
        match = _CHANNEL.match(stem_of(file)) if ending_of(file) and not _is_mask(file, stems) else None
        if match is not None and int(match["number"]) > 0:
            channels.setdefault(match["name"], []).append((int(match["number"]), file))
    return channels


def _channels(folder: Path, first: str, name: str, further: list[tuple[int, str]]) -> tuple[list[str], str]:
    """The files of a case in the order of their numbers; and what is wrong with them, in words.

    That is so where a number is left out, or has two files.
    """
    files, fault = {0: first}, ""
    for number, file in further:
        other = files.setdefault(number, file)
        if other != file:
            fault = f"{folder / file}: a second file of this channel beside {other}; remove one"
    missing = next((number for number in range(len(files)) if number not in files), None)
    if missing is not None:
        file = f"{name}_{missing:04}{ending_of(first)}"
        fault = f"{folder / file}: no such file, but {files[max(files)]} is there; put in the channel that is missing"
    return [files[number] for number in sorted(files)], fault


def _is_mask(file: str, stems: Collection[str]) -> bool:
    """Whether a file that is named like a channel may be the mask of a case whose name ends like one.

    As ``a_0000.nii.gz`` beside ``a_0000_0000.nii.gz``; `stems` are the names, without endings, of those beside it.
    """
    return f"{stem_of(file)}_0000" in stems


def refuse_duplicates(cases: list[CaseFiles]) -> None:
    """Refuse two cases of one name in the sorted `cases`.

    Raises:
        InputError: there are.
    """
    for before, after in itertools.pairwise(cases):
        if before.name == after.name:
            raise InputError(
                f"{after.image_path}: a second case named {after.name} beside {before.image_path}; rename one"
            )
