"""`bench tune`."""

import sys
from argparse import Namespace
from importlib.util import find_spec

from bench.cli.commands.check import exit_code, print_verdict
from bench.cli.terminal import progress
from bench.errors import InputError
from bench.plan.request import Request
from models.errors import install
from reports.records.store import read_run
from reports.render.tuning import REPORT, answers
from reports.summary.summarise import summarise

_NEEDED = {"optuna": "optuna", "tomli_w": "tomli-w"}  # modules and their distributions


def execute(options: Namespace) -> int:
    missing = [distribution for module, distribution in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"a search needs {' and '.join(missing)}; {install('tune')}")
    from bench.tune.search import Budget
    from bench.tune.tuning import CONFIRMATION, Search, tune

    wanted = Search(budget=Budget(seconds=options.search_s, trials=options.trials), tuning_split=options.tuning_split)
    with progress(sys.stderr) as shown:
        folder, tuned = tune(Request.of(options), wanted, options.out, options.resume, shown)
    confirmed = read_run(folder / CONFIRMATION)
    summary = summarise(confirmed)
    print_verdict(summary)
    for line in answers(tuned, confirmed, folder):
        print(f"  {line}")
    print(f"Report: {folder / REPORT}")
    return exit_code(summary)
