"""`bench compare`."""

from argparse import Namespace

from bench.cli.commands.report import show
from bench.cli.exit_codes import DONE, INCONCLUSIVE, REFUTED
from reports.decision import regression
from reports.decision.verdict import UNDECIDED
from reports.records.store import read_run
from reports.render.several import render_regressions


def execute(options: Namespace) -> int:
    reference, *others = map(read_run, (options.reference, *options.runs))
    results = [regression.regression(reference, run, options.max_slowdown) for run in others]
    show(render_regressions(results, options.format), options.out)
    exits = {regression.REGRESSION: REFUTED, regression.NO_REGRESSION: DONE, UNDECIDED: INCONCLUSIVE}
    return exits[regression.worst(result.state for result in results)]
