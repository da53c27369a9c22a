"""Run directories under a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from reports.records.store import RUN_FILE, RecordError


def run_folders(folder: Path, notes: list[str]) -> Iterator[Path]:
    """The run directories in `folder`, or itself, in the order of their names; nothing is sought inside of one.

    Links are not followed but for `folder` itself, so that ``latest`` counts no run twice. To `notes` comes a line for
    each folder that cannot be read.

    Raises:
        RecordError: there is no such folder.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder; name one that holds run directories")

    def unreadable(error: OSError) -> None:
        notes.append(f"{error.filename}: cannot be read ({error.strerror}) and is left out")

    for place, inner, files in os.walk(folder, onerror=unreadable):
        if RUN_FILE in files:
            inner.clear()
            yield Path(place)
        inner.sort()
