"""The folder of a run. Everything is written at once when it is known, whole or not at all."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from bench.errors import InputError
from reports.records.record import RunRecord, VariantRecord
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


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved: dict[str, VariantRecord] = {}

    @classmethod
    def create(cls, folder: Path) -> "RunDirectory":
        """Make a new run's folder.

        Raises:
            InputError: it is there already and not empty, or cannot be made.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: exists and is not empty; continue it with --resume or choose another --out")
        try:
            for name in (VARIANTS_FOLDER, SAMPLES_FOLDER):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be created ({error.strerror}); choose another --out") from None
        return cls(folder)

    def save_run(self, run: RunRecord) -> None:
        write_json(self.folder / RUN_FILE, run)

    def save_variant(self, variant: VariantRecord) -> None:
        """Append the samples that are new; where others went, or other fields changed, write the file anew."""
        saved, path = self._saved.get(variant.name), samples_path(self.folder, variant.name)
        kept = len(saved.samples) if saved else 0
        if saved and variant.samples[:kept] == saved.samples:
            append_samples(path, variant.samples[kept:])
        else:
            write_samples(path, variant.samples)
        if not saved or replace(variant, samples=saved.samples) != saved:
            write_json(variant_path(self.folder, variant.name), variant)
        self._saved[variant.name] = variant

    def log(self, name: str) -> Path:
        return self.folder / VARIANTS_FOLDER / f"{name}.log"

    def prediction(self, name: str, case: str) -> Path:
        """Where the first prediction of a case is kept."""
        return self._mask("predictions", name, case)

    def repeat(self, name: str, case: str) -> Path:
        """Where every later prediction of a case is written, so that writing is timed and nothing is overwritten."""
        return self._mask("repeats", name, case)

    def drop_repeats(self) -> None:
        shutil.rmtree(self.folder / "repeats", ignore_errors=True)

    def point_latest(self) -> None:
        """Make ``runs/latest`` of the current folder lead here."""
        LATEST.parent.mkdir(exist_ok=True)
        link = LATEST.with_name(f".latest-{os.getpid()}")
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(self.folder.resolve(), LATEST.parent.resolve()))
        link.replace(LATEST)

    def _mask(self, kind: str, name: str, case: str) -> Path:
        path = self.folder / kind / name / f"{case}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: its folder cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
