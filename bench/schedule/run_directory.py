"""The folder of a run. Everything is written at once when it is known, whole or not at all."""

import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bench.errors import InputError, StorageError
from reports.formatting import command_to_resume
from reports.records.record import Case, RunRecord, VariantRecord
from reports.records.store import (
    RUN_FILE,
    SAMPLES_FOLDER,
    VARIANTS_FOLDER,
    append_samples,
    samples_path,
    variant_path,
    write_json,
    write_samples,
)

LATEST = Path("runs") / "latest"
_PAUSE_S = 0.05  # between two looks at a lock


class RunDirectory:
    """Paths and files of one run; a `temporary` one is deleted by its caller, so that nobody is led there."""

    def __init__(self, folder: Path, *, temporary: bool = False) -> None:
        self.folder = folder
        self.temporary = temporary
        self._saved: dict[str, VariantRecord] = {}

    @classmethod
    def create(cls, folder: Path, *, temporary: bool = False) -> "RunDirectory":
        """Make a new run's folder.

        Raises:
            InputError: it is there already and not empty, or cannot be made.
        """
        create_folder(folder, (VARIANTS_FOLDER, SAMPLES_FOLDER))
        return cls(folder, temporary=temporary)

    @classmethod
    def create_new(cls, parent: Path, name: str) -> "RunDirectory":
        """Make the folder `name` in `parent`; where there is one already, ``name-2``, ``name-3`` and so on.

        Raises:
            InputError: it cannot be made.
        """
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                folder = parent / (name if number == 1 else f"{name}-{number}")
                with suppress(FileExistsError):
                    folder.mkdir()  # of several processes it succeeds in one
                    break
        except OSError as error:
            raise InputError(
                f"{parent / name}: cannot be created ({error.strerror}); choose a folder with --out"
            ) from None
        return cls.create(folder)

    @property
    def command_to_resume(self) -> str:
        """What finishes this run, to be typed as it is."""
        return command_to_resume(self.folder)

    @property
    def then_resume(self) -> str:
        """What a line for the user ends with, once it has said how to mend what stopped the run."""
        return "" if self.temporary else f", then go on with: {self.command_to_resume}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working in this folder.

        Raises:
            InputError: one does already.
        """
        with locked(self.folder, "another process measures this run; wait until it ends"):
            yield

    def save_run(self, run: RunRecord) -> None:
        """Write the run's record.

        Raises:
            StorageError: it cannot be written, as in all that follows; the one before is still there.
        """
        with self._writing(self.folder / RUN_FILE) as path:
            write_json(path, run)

    def save_variant(self, variant: VariantRecord) -> None:
        """Append the samples that are new; where others went, or other fields changed, write the file anew."""
        saved = self._saved.get(variant.name)
        kept = len(saved.samples) if saved else 0
        with self._writing(samples_path(self.folder, variant.name)) as path:
            if saved and variant.samples[:kept] == saved.samples:
                append_samples(path, variant.samples[kept:])
            else:
                write_samples(path, variant.samples)
        if not saved or replace(variant, samples=saved.samples) != saved:
            with self._writing(variant_path(self.folder, variant.name)) as path:
                write_json(path, variant)
        self._saved[variant.name] = variant

    def log(self, name: str) -> Path:
        return self.folder / VARIANTS_FOLDER / f"{name}.log"

    def predictions(self, name: str) -> Path:
        """The folder of a variant's first predictions."""
        return self.folder / "predictions" / name

    def prediction(self, name: str, case: Case) -> Path:
        """Where the first prediction of a case is kept, in the format of its image."""
        return self.predictions(name) / _mask_name(case)

    def repeat(self, name: str, case: Case) -> Path:
        """Where every later prediction of a case is written, so that writing is timed and nothing is overwritten."""
        return self.folder / "repeats" / name / _mask_name(case)

    def make_folders(self, masks: Iterable[Path]) -> None:
        """Make the folders of masks that are to be written.

        Raises:
            StorageError: one cannot be made.
        """
        for folder in {mask.parent for mask in masks}:
            with self._writing(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def call_folder(self, name: str) -> Path:
        """Where a call over all cases has links to their images, and writes its masks."""
        return self.folder / "repeats" / f"{name}.call"

    def drop_repeats(self) -> None:
        shutil.rmtree(self.folder / "repeats", ignore_errors=True)

    def point_latest(self) -> str | None:
        """Make ``runs/latest`` of the current folder lead here; return why, where that cannot be done.

        To a temporary directory it does not lead.
        """
        if self.temporary:
            return None
        link = LATEST.with_name(f".latest-{os.getpid()}")
        try:
            LATEST.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(self.folder.resolve(), LATEST.parent.resolve()))
            link.replace(LATEST)
        except OSError as error:  # it is a convenience, and some file systems know no links
            with suppress(OSError):
                link.unlink(missing_ok=True)
            return error.strerror or str(error)
        return None

    @contextmanager
    def _writing(self, path: Path) -> Iterator[Path]:
        try:
            yield path
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror}); make room{self.then_resume}") from None


def _mask_name(case: Case) -> str:
    from bench.data.formats import mask_ending  # which imports nibabel, and `bench --help` must be instant

    return f"{case.name}{mask_ending(case.image)}"


@contextmanager
def locked(path: Path, otherwise: str, wait_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from working in a folder, or on a file, for which they lock it likewise.

    Raises:
        InputError: one does already, and still does after `wait_s` seconds; says `otherwise`.
    """
    held, end = os.open(path, os.O_RDONLY), time.monotonic() + wait_s
    try:
        with suppress(OSError):  # a file system without locks
            while True:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end:
                        raise InputError(f"{path}: {otherwise}") from None
                time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(held)


def create_folder(folder: Path, rooms: Iterable[str] = ()) -> None:
    """Make a new folder for results, and those in it.

    Raises:
        InputError: it is there already and not empty, or cannot be made.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise _not_empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in rooms:
            (folder / name).mkdir()
    except FileExistsError:  # another command has begun here meanwhile
        raise _not_empty(folder) from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror}); choose another --out") from None


def _not_empty(folder: Path) -> InputError:
    return InputError(f"{folder}: exists and is not empty; continue it with --resume or choose another --out")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        StorageError: its folder cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        # Names of files may hold bytes that are no text.
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, by name, into a folder, which is made where it is missing; all are there before any gets its name.

    The first, which may name the others, gets its own last.

    Raises:
        StorageError: the folder cannot be made or written to.
    """
    unfinished, at = {name: folder / f".{name}.unfinished" for name in files}, folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in unfinished.items():
            at, content = folder / name, files[name]
            path.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
        for name, path in reversed(unfinished.items()):
            at = folder / name
            path.replace(at)
    except OSError as error:
        for path in unfinished.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise StorageError(f"{at}: cannot be written ({error.strerror}); choose another folder") from None
