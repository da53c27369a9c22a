"""Which files of a folder are DICOM, and what they are, by their first bytes: names and endings say nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

SLICES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PET",
}
"""Kinds of images that hold a slice a file."""

MULTI_FRAME = {
    "1.2.840.10008.5.1.4.1.1.2.1": "enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "legacy converted enhanced CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "legacy converted enhanced MR",
    "1.2.840.10008.5.1.4.1.1.130": "enhanced PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "legacy converted enhanced PET",
}
"""Kinds that hold all slices in a file."""

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
"""The kind that holds labels, a frame for each segment and slice."""

ENDING = ".dcm"
"""Of the segmentations that are written; others may have it in capitals."""

_HEAD = 4096  # bytes
_PREAMBLE = 128
# The file's own class in its meta information, which is explicit little-endian always; else that of the data set.
_CLASS = re.compile(rb"\x02\x00\x02\x00UI..([\d.]+)|\x08\x00\x16\x00(?:UI..|....)([\d.]+)", re.DOTALL)
_NAMED_SO = (".dcm", ".ima", ".dicom")


def class_of(path: Path) -> str | None:
    """The UID of what a file holds (its SOP class); empty where it is DICOM of an unknown kind, None where it is none.

    Old files begin with the data set itself, without preamble and meta information.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    has_preamble = head[_PREAMBLE : _PREAMBLE + 4] == b"DICM"
    if not has_preamble and not re.match(rb"[\x02\x08]\x00[\x00-\x20]\x00", head):
        return None
    match = _CLASS.search(head, _PREAMBLE + 4 if has_preamble else 0)
    if match is None:
        return "" if has_preamble else None
    return (match[1] or match[2]).decode("ascii")


def is_named(name: str) -> bool:
    """Whether a file is named as DICOM."""
    return name[-len(ENDING) :].casefold() == ENDING


def is_image(kind: str | None) -> bool:
    """Whether a file of this class is read as slices."""
    return kind in SLICES or kind in MULTI_FRAME


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM image of slices, by its files' first bytes; the first such ends the search."""
    try:
        return folder.is_dir() and any(is_image(class_of(path)) for path in _files(folder))
    except OSError:
        return False


def is_whole_series(path: Path) -> bool:
    """Whether a file that is named as DICOM holds all slices of an image, by its first bytes."""
    try:
        return is_named(path.name) and path.is_file() and class_of(path) in MULTI_FRAME
    except OSError:
        return False


def images_of(path: Path) -> tuple[list[Path], dict[str, int]]:
    """The images in a folder, or the file itself, sorted; and how many files of each other class are passed by.

    What is no DICOM is passed by too, unless its name says that it should be.

    Raises:
        DamagedFileError: such a name.
        OSError: a file cannot be read.
    """
    if path.is_file():
        return [path], {}
    images, others = [], dict[str, int]()
    for file in _files(path):
        kind = class_of(file)
        if is_image(kind):
            images.append(file)
        elif kind is not None:
            others[kind] = others.get(kind, 0) + 1
        elif file.suffix.casefold() in _NAMED_SO or file.stat().st_size == 0:
            raise DamagedFileError(file)
    return images, others


class DamagedFileError(Exception):
    """A file that is empty, or named as DICOM, and holds none."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.file = file


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.is_file())
