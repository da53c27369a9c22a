"""A case on its way to a node and back, without a name: neither its own, nor one of a file or a patient.

A file that the node sees too goes as the hashes of its path's parts, by which a node finds it that may list the folders
above; everybody else learns of it only what they can guess. Any other file goes as its voxels and where they lie, which
the driver reads. Labels come back as an array, and the driver writes the mask. What is said of a broken case has the
names replaced on the node, and put back by the driver.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bench.data.compression import gunzip, gzip
from bench.images.anonymous import anonymised
from bench.predict.inputs import image_file
from bench.worker.lines import Line
from bench.worker.messages import BatchCase

_HASHED = 12  # bytes of a part's hash


@dataclass(frozen=True)
class Place:
    """Where a file lies, as hashes of the parts of its path, and its bytes and date, by which it is known again."""

    parts: tuple[bytes, ...]
    content: tuple[int | None, int | None]


@dataclass(frozen=True)
class Content:
    """A file of `bench.images.anonymous.anonymised`, and the ending of its name."""

    ending: str
    content: bytes


@dataclass(frozen=True)
class SentCase:
    """A case, by a label that is new each time it is sent, and each of its images where it lies or as it is."""

    label: str
    images: tuple[Place | Content, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a case on a node.

    Attributes:
        line: of the node's own journal, with placeholders for names.
        shape, labels: of the mask, its voxels with the first axis contiguous, gzipped; empty where the case failed.
        broke: whether it broke the worker, which says little of the case itself.
    """

    label: str
    line: Line
    shape: tuple[int, ...] = ()
    labels: bytes = b""
    broke: bool = False

    def mask(self) -> NDArray[np.uint8]:
        """The labels, ``[X, Y, Z]``."""
        content = gunzip(self.labels, int(np.prod(self.shape)))
        assert content is not None, "what `packed_labels` gives"
        return np.frombuffer(content, np.uint8).reshape(self.shape, order="F")


def packed_labels(mask: Path) -> tuple[tuple[int, ...], bytes]:
    """The shape and the voxels of a mask in NIfTI as `Outcome` has them, and nothing of its header."""
    nifti: Any = nib.load(mask)
    labels = np.asarray(nifti.dataobj, np.uint8)
    return labels.shape, gzip(labels.tobytes(order="F"))


@dataclass(frozen=True)
class Sender:
    """The driver's end; `salt` makes hashes of this call comparable with no others."""

    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def places(self, case: BatchCase) -> tuple[Place, ...]:
        """Of all images."""
        return tuple(
            Place(tuple(_hashed(self.salt, part) for part in _parts(Path(image.path))), image.content)
            for image in case.images
        )

    def sent(self, label: str, case: BatchCase, seen: bool) -> SentCase:
        """The case as it goes to a node that sees its files, or does not.

        Raises:
            InputError: an image cannot be read.
        """
        if seen:
            return SentCase(label, self.places(case))
        return SentCase(label, tuple(Content(*anonymised(Path(image.path))) for image in case.images))


class Finder:
    """A node's end: finds files by the hashes of their paths."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._folders: dict[Path, dict[bytes, str]] = {}

    def find(self, place: Place) -> Path | None:
        """The file, as it was when the driver listed it; None where this node does not see it."""
        path = Path(os.sep)
        for part in place.parts:
            name = self._entries(path).get(part)
            if name is None:
                return None
            path /= name
        return path if image_file(path).content == place.content and None not in place.content else None

    def _entries(self, folder: Path) -> Mapping[bytes, str]:
        if folder not in self._folders:
            names = [os.pardir]  # a path may hold it, and no folder lists it
            with suppress(OSError):
                names += [entry.name for entry in folder.iterdir()]
            self._folders[folder] = {_hashed(self._salt, name): name for name in names}
        return self._folders[folder]


def hidden(text: str, images: Sequence[Path]) -> str:
    """The text with placeholders for the names of these files, and of the files in them."""
    return _replaced(text, {name: placeholder for placeholder, name in _names(images).items()})


def shown(text: str, images: Sequence[Path]) -> str:
    """A text of `hidden` with the names of these files."""
    return _replaced(text, _names(images))


def _names(images: Sequence[Path]) -> dict[str, str]:
    """By their placeholders."""
    names = dict[str, str]()
    for number, path in enumerate(images):
        names |= {f"{{path {number}}}": str(path), f"{{name {number}}}": path.name}
        if path.is_dir():
            files = sorted(each.name for each in path.iterdir())
            names |= {f"{{file {number} {place}}}": file for place, file in enumerate(files)}
    return names


def _replaced(text: str, by: Mapping[str, str]) -> str:
    """All at once, the longest first."""
    longest_first = sorted(by, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda match: by[match[0]], text)


def _parts(path: Path) -> tuple[str, ...]:
    return path.absolute().parts[1:]


def _hashed(salt: bytes, part: str) -> bytes:
    return hashlib.blake2b(os.fsencode(part), key=salt, digest_size=_HASHED).digest()
