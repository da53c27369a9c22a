"""`bench run`."""

import signal
import sys
from argparse import Namespace

from bench import run
from bench.cli.check import exit_code, print_verdict
from bench.cli.inspection import model_options
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
            folder = run.run(_request(options), options.out, shown)
    summary = summarise(read_run(folder))
    print_verdict(summary)
    print(f"Report: {folder / 'report.md'}")
    return exit_code(summary)


def _request(options: Namespace) -> Request:
    return Request(
        checkpoint=options.checkpoint,
        data=options.data,
        model_options=model_options(options),
        demo=options.demo,
        demo_width=options.demo_width,
        split=options.split,
        backends=options.backends,
        recipes=options.recipes,
        device=options.device,
        protocol=options.protocol,
        overlap=options.overlap,
        roi=options.roi,
        batch=options.batch,
        rounds=options.rounds,
        budget_s=options.budget,
        max_cases=options.max_cases,
        threads=options.threads,
        allocator=options.allocator,
        seed=options.seed,
        min_reduction_pct=options.min_reduction,
        max_dsc_drop=options.max_dsc_drop,
        max_nsd_drop=options.max_nsd_drop,
        max_f1_drop=options.max_f1_drop,
        required=options.require,
        timeout_s=options.timeout,
        command=options.typed,
    )
