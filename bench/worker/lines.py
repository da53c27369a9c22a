"""The lines of `bench predict`'s journal, a case each: written by the worker as cases end, read by the harness."""

import errno
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.errors import StorageError

OK, FAILED = "ok", "failed"


@dataclass(frozen=True)
class ImageFile:
    """An image of a case as it was when the case was listed: bytes, and when it was changed; None where it is missing.

    Of several files, such as those of a series, all bytes and the latest change.
    """

    path: str
    size: int | None
    mtime_ns: int | None

    @property
    def content(self) -> tuple[int | None, int | None]:
        """By which a changed file is noticed."""
        return self.size, self.mtime_ns


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of a case.

    Attributes:
        case: its name.
        status: `OK`, which counts only where the mask is on disk, or `FAILED` with its `reason`.
        mask, mask_sha256: name of the mask's file beside the journal, and hash of what is in it.
        number, class_name, probabilities: the predicted class, and the probability of each in the network's order;
            empty where the network has no classification.
        seconds: of each stage, and from the start of its reading to the mask's content on disk (``case``).
        roi_fallback: whether a ROI strategy was unsure and took all of the volume; None without one.
        written_unix_s: when the line was written.
    """

    case: str
    images: tuple[ImageFile, ...]
    status: str
    mask: str | None = None
    mask_sha256: str | None = None
    number: int | None = None
    class_name: str | None = None
    probabilities: tuple[float, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    roi_fallback: bool | None = None
    reason: str | None = None
    written_unix_s: float = field(default_factory=lambda: round(time.time(), 3))

    def encoded(self) -> bytes:
        """The line, with its end. Bytes of a file's name that are no text are JSON's escapes."""
        document = {**vars(self), "class": self.number, "images": [vars(image) for image in self.images]}
        del document["number"]
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def decoded(cls, line: bytes) -> Self | None:
        """What `encoded` gave; None of anything else, as of a line that was cut off."""
        try:
            held: dict[str, Any] = json.loads(line)
            held["number"] = held.pop("class")
            held["images"] = tuple(ImageFile(**image) for image in held["images"])
            held["probabilities"] = tuple(held["probabilities"])
            return cls(**held)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def append(path: Path, line: bytes) -> None:
    """Put a line behind those that are there, so that a power cut cannot take it away again.

    Raises:
        StorageError: it cannot be written; nothing of it is left.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(file).st_size
            if os.write(file, line) < len(line):
                with suppress(OSError):
                    os.truncate(file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}); make room") from None
