"""`bench report`."""

from argparse import Namespace

from bench.cli.exit_codes import DONE
from bench.schedule.run_directory import LATEST, write_text
from reports.records.store import read_run
from reports.render import render
from reports.summary.summarise import summarise


def execute(options: Namespace) -> int:
    folder = options.run or LATEST
    text = render(summarise(read_run(folder)), options.format)
    if options.format == "markdown":
        write_text(folder / "report.md", text)
    if options.out is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        write_text(options.out, text)
    return DONE
