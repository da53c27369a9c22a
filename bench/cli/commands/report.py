"""`bench report`, and where other commands show a document."""

import sys
from argparse import Namespace
from pathlib import Path

from bench.cli.exit_codes import DONE
from bench.errors import InputError, StorageError
from bench.schedule.run_directory import LATEST, write_files, write_text
from models.errors import install
from reports.records.store import Run, read_run
from reports.render import FOLDERS, render, render_folder
from reports.summary.summarise import summarise


def execute(options: Namespace) -> int:
    folder = options.run or LATEST
    if options.format in FOLDERS and options.out is None:
        raise InputError(f"--format {options.format} writes several files: name a folder for them with --out DIR")
    run = read_run(folder)
    if options.format in FOLDERS:
        _write_folder(run, options.format, options.out)
        return DONE
    text = render(summarise(run), options.format)
    if options.format == "markdown":
        try:
            write_text(folder / "report.md", text)
        except StorageError as error:  # a run may lie where nothing can be written
            print(f"bench: the report is not renewed: {error}", file=sys.stderr)
    show(text, options.out)
    return DONE


def show(text: str, out: Path | None) -> None:
    """Write a document to the file `out`, or to the terminal."""
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        write_text(out, text)


def _write_folder(run: Run, form: str, out: Path) -> None:
    try:
        files = render_folder(run, summarise(run), form)
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise InputError(
            f"--format {form} is written by pyarrow, which is not installed; {install('parquet')}"
        ) from None
    write_files(out, files)
