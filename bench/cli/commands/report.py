"""`bench report`, and where other commands show a document."""

import sys
from argparse import Namespace
from pathlib import Path

from bench.cli.exit_codes import DONE
from bench.errors import StorageError
from bench.schedule.run_directory import LATEST, write_text
from reports.records.store import read_run
from reports.render import render
from reports.summary.summarise import summarise


def execute(options: Namespace) -> int:
    folder = options.run or LATEST
    text = render(summarise(read_run(folder)), options.format)
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
