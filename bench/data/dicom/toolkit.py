"""pydicom and highdicom, which may be missing, and which speak of values that may be a patient's."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from bench.errors import InputError
from models.errors import install

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_lock = Lock()
_quiet: list[tuple[int, int]] = []  # how strict pydicom was, as each that is within `quiet` met it


def library(name: str, path: Path) -> Any:
    """A module of pydicom or highdicom.

    Raises:
        InputError: it is not installed; names `path`, which needs it.
    """
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(
            f"{path}: DICOM is read and written by {package}, which is not installed; {install('dicom')}"
        ) from None


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """pydicom takes values that the standard does not allow without a warning, which would print them.

    Its settings are the process's, and cases are read and written in threads of their own: the last of them to leave
    puts the settings back.
    """
    settings = library("pydicom.config", path).settings
    logging.getLogger("highdicom").setLevel(logging.ERROR)
    with _lock:
        _quiet.append((settings.reading_validation_mode, settings.writing_validation_mode))
        settings.reading_validation_mode = settings.writing_validation_mode = 0  # IGNORE
    try:
        yield
    finally:
        with _lock:
            strict = _quiet.pop()
            if not _quiet:
                settings.reading_validation_mode, settings.writing_validation_mode = strict


def shown(text: object, most: int = 40) -> str:
    """What a file says, for a message: short, in one line, and of printable ASCII alone."""
    return _UNPRINTABLE.sub("?", str(text))[:most]
