"""What is kept between runs: built engines and the demo's volumes."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench import demo
from bench.errors import InputError
from bench.machine import host
from bench.progress import Progress

_VARIABLE = "VOXBENCH_CACHE"
MOST_PROCESSES = 16  # that draw cases; each takes a second to begin


def cache_folder() -> Path:
    """Where built engines and the demo's volumes are kept between runs: $VOXBENCH_CACHE or the user's cache folder.

    Raises:
        InputError: the user has no home folder.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    # XDG's specification has a relative folder passed by: it would be another one wherever the command is given.
    standard = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (standard if standard.is_absolute() else Path.home() / ".cache") / "voxbench"
    except RuntimeError:
        raise InputError(f"no home folder to keep built engines in; set {_VARIABLE} to a folder") from None


def prepare_cache(note: Callable[[str], None]) -> None:
    """Make the cache's folder; where it cannot be written to, one among the temporary files takes its place.

    Raises:
        InputError: it cannot be written to, and is the one that $VOXBENCH_CACHE names; or there is no temporary one.
    """
    try:
        folder = cache_folder()
        str(folder).encode()  # the runtimes' own code takes no other names
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
        return
    except InputError as error:
        problem = str(error)
    except UnicodeEncodeError:
        problem = f"{folder}: the name of the cache is not UTF-8; set {_VARIABLE} to another folder"
    except OSError as error:
        problem = f"{folder}: the cache cannot be written to ({error.strerror}); set {_VARIABLE} to another folder"
    if os.environ.get(_VARIABLE):
        raise InputError(problem)
    try:
        os.environ[_VARIABLE] = str(_among_temporary_files())
    except OSError as error:
        raise InputError(f"{problem}; and no temporary folder can be written to ({error})") from None
    note(f"{problem}. Until then it is {os.environ[_VARIABLE]}, for as long as temporary files are kept")


def _among_temporary_files() -> Path:
    """The user's cache there: the same for later processes, which go on with a run or open what it built.

    Built engines are code, so that nobody else may write to it.
    """
    folder = Path(tempfile.gettempdir()) / f"voxbench-cache-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="voxbench-cache-"))


def demo_data(progress: Progress, kind: str = "pancreas", cases: int | None = None) -> Path:
    """The demo's made-up volumes of a `kind`, written on first use.

    Each kind is in a folder of its own; abdomens in another one where more validation `cases` are asked for than it
    has.

    Raises:
        InputError: they cannot be written.
    """
    prepare_cache(progress.note)
    counts = None
    name = f"demo-{demo.VERSION}" if kind == "pancreas" else f"demo-{kind}-{demo.VERSION}"
    if kind == "abdomen" and cases is not None and cases > demo.ABDOMEN_COUNTS["validation"]:
        name, counts = f"{name}-{cases}", {**demo.ABDOMEN_COUNTS, "validation": cases}
    folder = cache_folder() / name
    if not folder.is_dir():
        progress.start(f"writing the demo's volumes to {folder}", 1)
        processes = min(len(host.allowed_cpus()), MOST_PROCESSES)
        try:
            demo.write_demo(folder, counts=counts, kind=kind, processes=processes)
        except OSError as error:
            raise InputError(
                f"{folder}: the demo's volumes cannot be written ({error.strerror}); make room, or set {_VARIABLE} to "
                "another folder"
            ) from None
    return folder
