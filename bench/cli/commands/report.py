"""`bench report`, and where other commands show a document."""

import sys
from argparse import Namespace
from pathlib import Path

from bench.cli.exit_codes import DONE
from bench.errors import InputError, StorageError
from bench.schedule.run_directory import LATEST, write_files, write_text
from models.errors import install
from reports.records.store import Run, read_run
from reports.render import FOLDERS, markdown_files, render, render_folder
from reports.render.cases.images import CaseImages
from reports.summary.summarise import summarise
from reports.summary.summary import Summary

_MAX_BYTES = 20 * 2**20  # of a page


def execute(options: Namespace) -> int:
    folder = options.run or LATEST
    _refuse_without_page(options)
    if options.format in FOLDERS and options.out is None:
        raise InputError(f"--format {options.format} writes several files: name a folder for them with --out DIR")
    run = read_run(folder)
    summary = summarise(run)
    if options.format in FOLDERS:
        _write_folder(summary, options.format, options.out)
        return DONE
    if options.format == "markdown":
        try:
            write_files(folder, markdown_files(summary))
        except StorageError as error:  # a run may lie where nothing can be written
            print(f"bench: the report is not renewed: {error}", file=sys.stderr)
        if options.out is not None and _takes_picture(options.out):
            document, *picture = markdown_files(summary, options.out.stem).items()
            write_files(options.out.parent, {options.out.name: document[1], **dict(picture)})
            return DONE
    images = None
    if options.format == "html" and not options.no_images:
        images = _images(run, summary, options.max_size or _MAX_BYTES)
    show(render(summary, options.format, images), options.out)
    return DONE


def _refuse_without_page(options: Namespace) -> None:
    of_page = {"--no-images": options.no_images, "--max-size": options.max_size}
    typed = [option for option, value in of_page.items() if value]
    if options.format != "html" and typed:
        raise InputError(f"{typed[0]}: is of the page; add --format html, or leave it out")


def show(text: str, out: Path | None) -> None:
    """Write a document to the file `out`, or to the terminal."""
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        write_text(out, text)


def _write_folder(summary: Summary, form: str, out: Path) -> None:
    try:
        files = render_folder(summary, form)
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise InputError(
            f"--format {form} is written by pyarrow, which is not installed; {install('parquet')}"
        ) from None
    write_files(out, files)


def _takes_picture(out: Path) -> bool:
    """Whether a picture can lie beside the document: not where that is a pipe, or a picture by its name."""
    return (out.is_file() or not out.exists()) and out.suffix.lower() != ".svg"


def _images(run: Run, summary: Summary, max_bytes: int) -> CaseImages | None:
    from bench.images.case_images import case_images  # which reads volumes, as no other format does

    if summary.cases_of is None:
        return None
    return case_images(run, summary.worst_cases, summary.cases_of, max_bytes)
