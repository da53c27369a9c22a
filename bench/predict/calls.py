"""A call over many cases: what of them is still to be done, and what is said where it ends early."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from bench.data.layouts import CaseFiles
from bench.errors import BackendLostError, InputError, InterruptedRunError, StorageError
from bench.predict.inputs import batch_case, list_cases, refuse_folder
from bench.predict.journal import Journal
from bench.worker.lines import FAILED, Line
from bench.worker.messages import BatchCase


class RunsCases(Protocol):
    """Runs cases into a journal; `opened` is None until the first could be run."""

    @property
    def opened(self) -> object | None: ...

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase], faults: Sequence[Line] = ()) -> None:
        """As of `bench.predict.runner.Runner`."""
        ...


def listed_cases(inputs: Sequence[Path], split: str | None, out: Path, report: Path | None) -> list[CaseFiles]:
    """The cases of a call, which writes into the folder `out`, and a `report` where that is named.

    Raises:
        InputError: an input is none, or what is to be written has no place.
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise InputError(f"{report}: its folder is not there; make it, or name another file with --report")
    cases = list_cases(inputs, split)
    refuse_folder(out, cases)
    return cases


def run_cases(runner: RunsCases, journal: Journal, cases: Sequence[CaseFiles], again: str) -> int:
    """Predict what is to be done; return how many cases were done before. `again`: the command that goes on.

    Raises:
        StorageError, BackendLostError, InterruptedRunError: it was stopped; what is done is kept, and the message
            names the command that goes on.
    """
    work = journal.sort(batch_case(case) for case in cases if not case.fault)
    faults = [
        Line(case=case.name, images=batch_case(case).images, status=FAILED, reason=case.fault)
        for case in cases
        if case.fault
    ]
    kept = f"what was predicted is kept. To go on: {again}"
    try:
        runner.run(work.fresh, work.failed, faults)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; {kept}") from None
    except (StorageError, BackendLostError) as error:
        raise type(error)(f"{error}; {kept}" if runner.opened is not None else str(error)) from None
    return len(work.done)
