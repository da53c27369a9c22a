"""An error that is the fault of this program: one line for the user, and the traceback in a file."""

import os
import platform
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench import __version__
from models.errors import without_passwords


def describe(error: BaseException, command: str, folders: Sequence[Path]) -> str:
    """Write the traceback of `error` to the first of `folders` that can be written; return the line for the user.

    Passwords in addresses are left out of both, since the file is meant to be sent to us.
    """
    try:
        summary = without_passwords(" ".join(traceback.format_exception_only(error)[-1].split()))
        text = without_passwords(
            f"{command}\nvoxbench {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n"
            + "".join(traceback.format_exception(error))
        )
        written = next((path for path in (_write(text, folder) for folder in folders) if path is not None), None)
    except Exception:  # whatever it is: the line must come out, and no second traceback
        summary, written = type(error).__name__, None
    where = f"its traceback is in {written}; please report it" if written else "its traceback could not be written"
    return f"internal error, our fault and not yours: {summary}; {where}"


def _write(text: str, folder: Path) -> Path | None:
    """Write a new file, whole or not at all; None where that fails."""
    unfinished = None
    try:
        handle, name = tempfile.mkstemp(prefix="voxbench-error-", suffix=".unfinished", dir=folder)
        unfinished = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return unfinished.replace(unfinished.with_suffix(".txt"))
    except OSError:
        if unfinished is not None:
            with suppress(OSError):
                unfinished.unlink()
        return None
