"""A call over many cases, whatever runs them: what is still to be done, and what became of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from bench.data.layouts import CaseFiles
from bench.errors import BackendLostError, InputError, InterruptedRunError, StorageError
from bench.predict import tables
from bench.predict.inputs import batch_case, list_cases, refuse_folder
from bench.predict.journal import Journal
from bench.progress import Progress
from bench.worker.lines import OK, Line
from bench.worker.messages import BatchCase
from reports.formatting import count, percent, seconds


@dataclass(frozen=True, kw_only=True)
class Called:
    """What became of the cases of a call.

    Attributes:
        source: what predicted.
        lines: a line for each case, by name.
        before: how many of them were done already.
        wall_s: while cases ran, the time that went by.
    """

    source: str
    folder: Path
    lines: tuple[Line, ...]
    before: int
    wall_s: float

    @property
    def failed(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.status != OK)

    @property
    def done(self) -> int:
        """Cases that are predicted, by this call or before it."""
        return len(self.lines) - len(self.failed)

    def summary(self, busy: str, share: float) -> list[str]:
        """For the terminal; `busy` in words what took this `share` of the time."""
        computed, before = self.done - self.before, f", {self.before} of them before" if self.before else ""
        lines = [f"{self.source}: {count(self.done, 'case')} predicted{before}; {len(self.failed)} failed"]
        if computed:
            lines.append(f"{seconds(self.wall_s / computed)} a case; {busy} {percent(100 * share)} of the time")
        return lines

    def report(
        self, command: str, begun: datetime, identity: Mapping[str, str], classes: Sequence[str], own: Mapping[str, Any]
    ) -> str:
        """JSON for scripts; `own` is what only this way of running cases knows."""
        return tables.json_text(
            {
                "command": command,
                "created": begun.isoformat(timespec="seconds"),
                "source": self.source,
                "identity": dict(identity),
                "classes": list(classes),
                **own,
                "folder": str(self.folder.absolute()),
                "predicted": self.done,
                "predicted_before": self.before,
                "failed": len(self.failed),
                "cases": tables.entries(self.lines, classes),
            }
        )


class RunsCases(Protocol):
    """Runs cases into a journal; `opened` is None until the first could be run."""

    @property
    def opened(self) -> object | None: ...

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase]) -> None:
        """As of `bench.predict.runner.Runner`."""
        ...


def listed_cases(
    inputs: Sequence[Path], split: str | None, out: Path, report: Path | None, progress: Progress
) -> list[CaseFiles]:
    """The cases of a call, which writes into the folder `out`, and a `report` where that is named; with a note on what
    is passed by.

    Raises:
        InputError: an input is none, or what is to be written has no place.
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise InputError(f"{report}: its folder is not there; make it, or name another file with --report")
    cases = list_cases(inputs, split, progress.note)
    refuse_folder(out, cases)
    return cases


def run_cases(runner: RunsCases, journal: Journal, cases: Sequence[CaseFiles], progress: Progress, again: str) -> int:
    """Predict what is to be done; return how many cases were done before. `again`: the command that goes on.

    Raises:
        StorageError, BackendLostError, InterruptedRunError: it was stopped; what is done is kept, and the message
            names the command that goes on.
    """
    work = journal.sort(batch_case(case) for case in cases if not case.fault)
    faults = [case for case in cases if case.fault]
    kept = f"what was predicted is kept. To go on: {again}"
    try:
        progress.start("predicting", len(work.fresh) + len(work.failed) + len(faults))
        for case in faults:
            journal.fail(batch_case(case), case.fault)
        journal.show(progress)
        runner.run(work.fresh, work.failed)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; {kept}") from None
    except (StorageError, BackendLostError) as error:
        raise type(error)(f"{error}; {kept}" if runner.opened is not None else str(error)) from None
    return len(work.done)
