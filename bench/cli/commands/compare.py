"""`bench compare`."""

from argparse import Namespace

from bench.cli.exit_codes import DONE, INCONCLUSIVE, REFUTED
from reports.decision import regression
from reports.decision.verdict import UNDECIDED
from reports.records.store import read_run
from reports.render import regression as regression_page


def execute(options: Namespace) -> int:
    reference, *others = map(read_run, (options.reference, *options.runs))
    results = [regression.regression(reference, run, options.max_slowdown) for run in others]
    print(regression_page.render(results, options.format), end="")
    exits = {regression.REGRESSION: REFUTED, regression.NO_REGRESSION: DONE, UNDECIDED: INCONCLUSIVE}
    return exits[regression.worst(result.state for result in results)]
