"""Of several runs: `bench compare` and `bench history`."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cli.commands.report import show
from bench.cli.exit_codes import DONE, INCONCLUSIVE, REFUTED
from bench.errors import InputError
from reports.decision import regression
from reports.decision.history import history
from reports.decision.verdict import UNDECIDED
from reports.formatting import listed
from reports.records.run_folders import run_folders
from reports.records.store import RecordError, Run, read_run
from reports.render.several import render_history, render_regressions


def execute(options: Namespace) -> int:
    return _compare(options) if options.command == "compare" else _history(options)


def _compare(options: Namespace) -> int:
    reference, *others = map(read_run, (options.reference, *options.runs))
    results = [regression.regression(reference, run, options.max_slowdown) for run in others]
    show(render_regressions(results, options.format), options.out)
    exits = {regression.REGRESSION: REFUTED, regression.NO_REGRESSION: DONE, UNDECIDED: INCONCLUSIVE}
    return exits[regression.worst(result.state for result in results)]


def _history(options: Namespace) -> int:
    notes: list[str] = []
    result = history(_runs(options.folders, notes), notes)
    if not result.runs:
        where = listed([str(folder) for folder in options.folders])
        if notes:
            raise InputError(f"{where}: there are runs here, and none of them can be read: {notes[0]}")
        raise InputError(f"{where}: no run here; name folders in which `bench run` wrote, such as runs")
    show(render_history(result, options.format), options.out)
    return DONE


def _runs(folders: Sequence[Path], notes: list[str]) -> Iterator[Run]:
    """Every run in the folders, each once, one after the other; to `notes` comes a line for each that is left out."""
    seen = set()
    for folder in (place for root in folders for place in run_folders(root, notes)):
        if (resolved := folder.resolve()) in seen:
            continue
        seen.add(resolved)
        try:
            run = read_run(folder)
        except RecordError as error:
            notes.append(str(error))
            continue
        notes += run.notes
        yield run
