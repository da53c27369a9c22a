"""`bench run`."""

import signal
import sys
from argparse import Namespace

from bench import run
from bench.cli.check import exit_code, print_verdict
from bench.cli.terminal import progress
from bench.plan.request import Request
from bench.schedule.run_directory import LATEST
from reports.records.store import read_run
from reports.summary.summarise import summarise


def execute(options: Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is an interrupt too
    with progress(sys.stderr) as shown:
        if options.resume:
            folder = run.resume(options.out or LATEST, shown)
        else:
            folder = run.run(Request.of(options), options.out, shown)
    summary = summarise(read_run(folder))
    print_verdict(summary)
    print(f"Report: {folder / 'report.md'}")
    return exit_code(summary)
