"""Lists of cases in JSON: the ``dataset.json`` of the Medical Segmentation Decathlon, and MONAI's data lists.

``training``, ``validation`` and ``test`` hold objects with an ``image`` (a path, or one for each channel) and a
``label``, or paths of images alone; paths start at the JSON's folder.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
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

    A case is named after its image, or after the images' folder where only that differs between the cases.

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
    own = [_own_name([stem_of(path.name) for path in images]) for images in cases]
    folders = [images[0].parent.name for images in cases]
    if all(own) and len(set(own)) == len(own):
        return own
    if len(set(folders)) == len(folders):
        return folders
    return [name or folder for name, folder in zip(own, folders, strict=True)]


def _own_name(stems: Sequence[str]) -> str:
    """What the names of a case's files have in common, of their parts between ``_``, ``-``, ``.`` and spaces."""
    parts = zip(*(re.split(r"([-_. ]+)", stem) for stem in stems), strict=False)
    common = itertools.takewhile(lambda same: len(set(same)) == 1, parts)
    return "".join(first for first, *_ in common).rstrip("-_. ")
