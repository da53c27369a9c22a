"""Lists of cases in JSON: the ``dataset.json`` of the Medical Segmentation Decathlon, and MONAI's data lists.

``training``, ``validation`` and ``test`` hold objects with an ``image`` (a path, or one for each channel) and a
``label``, or paths of images alone; paths start at the JSON's folder.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.formats import FORMATS, ending_of, format_of, stem_of
from bench.errors import InputError

_KEYS = {"train": ("training", "train"), "validation": ("validation", "val"), "test": ("test", "testing")}
_SHOWN = 80  # letters of a path in a message


def lists_cases(held: Mapping[str, Any]) -> bool:
    """Whether this content of a JSON has a list of cases, of any split."""
    return any(key in held for keys in _KEYS.values() for key in keys)


@dataclass(frozen=True)
class Entry:
    """A case of a list; its files are not opened."""

    name: str
    image_paths: tuple[Path, ...]
    mask_path: Path | None


def entries_of(file: Path, held: Mapping[str, Any], split: str) -> list[Entry]:
    """The cases of `split` that `held`, the content of `file`, lists; none where it has no such list.

    A case is named after its image; where images are called alike, after the nearest folder by which the cases differ.

    Raises:
        InputError: an entry that is none.
    """
    key = next((key for key in _KEYS[split] if key in held), None)
    if key is None:
        return []
    if not isinstance(held[key], list):
        raise InputError(f"{file}: {key!r} is not a list of cases; correct it")
    files = [_files(file, f"entry {number} of {key!r}", entry) for number, entry in enumerate(held[key], 1)]
    names = _names([images for images, _ in files])
    return [Entry(name, images, mask) for name, (images, mask) in zip(names, files, strict=True)]


def _files(file: Path, where: str, entry: Any) -> tuple[tuple[Path, ...], Path | None]:
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
    paths = image if isinstance(image, list) and image else [image]
    images = tuple(_path(file, where, path) for path in paths)
    return images, None if label is None else _path(file, where, label)


def _path(file: Path, where: str, text: Any) -> Path:
    if isinstance(text, str) and format_of(file.parent / text) == "DICOM":
        raise InputError(
            f"{file}: {where} has {text[:_SHOWN]!r}, which is DICOM: it can be predicted, by `bench predict` with its "
            "own path, and not measured; convert it to NIfTI first"
        )
    if not isinstance(text, str) or not ending_of(text):
        raise InputError(
            f"{file}: {where} has {str(text)[:_SHOWN]!r} where the path of an image or mask is expected, "
            f"which ends in {', '.join(FORMATS)}; correct it"
        )
    return file.parent / text


def _names(cases: Sequence[tuple[Path, ...]]) -> list[str]:
    stems = [[stem_of(path.name) for path in images] for images in cases]
    own = [_own_name(names, ends=False) for names in stems]
    whole = [_own_name(names, ends=True) for names in stems]
    for names in (own, whole, *_folders([images[0].parent for images in cases])):
        if all(names) and len(set(names)) == len(names):
            return names
    return [name or images[0].parent.name for name, images in zip(own, cases, strict=True)]


def _own_name(stems: Sequence[str], *, ends: bool) -> str:
    """What the names of a case's files have in common, of their parts between ``_``, ``-``, ``.`` and spaces.

    That is how they all begin; with `ends` also how they all end.
    """
    parts = [re.split(r"([-_. ]+)", stem) for stem in stems]
    begin = _common(parts)
    end = _common([each[len(begin) :][::-1] for each in parts])[::-1] if ends else []
    first, last = ("".join(of).strip("-_. ") for of in (begin, end))
    return f"{first}_{last}" if first and last else first or last


def _common(parts: Sequence[Sequence[str]]) -> list[str]:
    """The parts with which all begin."""
    same = itertools.takewhile(lambda at: len(set(at)) == 1, zip(*parts, strict=False))
    return [first for first, *_ in same]


def _folders(folders: Sequence[Path]) -> Iterator[list[str]]:
    """The names of the folders at each level, from the files upwards; then of the levels up to each, together."""
    upwards = [
        [name for name in (folder.name, *(above.name for above in folder.parents)) if name] for folder in folders
    ]
    levels = range(min(map(len, upwards), default=0))
    yield from ([names[level] for names in upwards] for level in levels)
    yield from (["_".join(names[level::-1]) for names in upwards] for level in levels)
