"""A temporary folder that is deleted also where the process that has it is killed, as Ray kills actors."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# It is no child of the process that it waits for: Ray kills those of an actor that it stops.
_WAITING = 'exec 3<&0; (read -r _ <&3; rm -rf -- "$0") &'


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder, which a process of its own deletes where this one ends without having done so."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    shell = subprocess.Popen(["sh", "-c", _WAITING, str(folder)], stdin=subprocess.PIPE, start_new_session=True)
    shell.wait()
    assert shell.stdin is not None
    with shell.stdin:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
