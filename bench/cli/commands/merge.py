"""`bench merge`."""

import sys
from argparse import Namespace

from bench.cli.commands.check import exit_code, print_verdict
from bench.cli.exit_codes import BAD_INPUT, DONE
from bench.cli.terminal import progress
from bench.merge.merging import merge
from bench.merge.predictions import Merged
from bench.predict import tables
from reports.formatting import count
from reports.summary.summarise import summarise


def execute(options: Namespace) -> int:
    with progress(sys.stderr) as shown:
        merged = merge(options.folders, options.out, options.typed, shown)
    if isinstance(merged, Merged):
        done = len(merged.lines) - len(merged.failed)
        print(f"{count(merged.shards, 'shard')}: {count(done, 'case')} predicted; {len(merged.failed)} failed")
        print(f"Predictions: {merged.folder / tables.CSV}")
        return BAD_INPUT if merged.failed else DONE
    summary = summarise(merged)
    print_verdict(summary)
    print(f"Report: {options.out / 'report.md'}")
    return exit_code(summary)
