"""All of `bench predict --url`: cases listed, the server asked, what is not done yet predicted, tables written."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import __version__
from bench.predict import tables
from bench.predict.calls import listed_cases, run_cases
from bench.predict.journal import Journal
from bench.progress import Progress
from bench.schedule.run_directory import write_text
from bench.serving.remote import Remote
from bench.serving.server import Server
from bench.worker.lines import OK, Line


@dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Attributes:
        model: its name on the server at `url`.
        split: of inputs that are data sets; None for all of them.
        in_flight: cases that the server has, or waits for, at a time.
        timeout_s: for the answer to a case, with its time in the queue.
        again: the command line, as typed: called once more, it goes on.
    """

    url: str
    model: str
    inputs: tuple[Path, ...]
    out: Path
    split: str | None
    report: Path | None
    in_flight: int
    timeout_s: float
    again: str


@dataclass(frozen=True)
class Predictions:
    """What became of the cases of a call.

    Attributes:
        source: what predicted, and where.
        lines: a line for each case, by name. before: how many of them were done already.
        wall_s: while cases ran, the time that went by. server_s: what the server took for them.
    """

    source: str
    folder: Path
    lines: tuple[Line, ...]
    before: int
    wall_s: float
    server_s: float

    @property
    def failed(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.status != OK)


def predict(asked: Asked, progress: Progress) -> Predictions:
    """Have the server predict every case that is not done yet.

    Raises:
        InputError and its like: something cannot be used; of the cases none was begun.
        StorageError, BackendLostError, InterruptedRunError: it was stopped; what is done is kept, and the message
            names the command that goes on.
    """
    begun, started = datetime.now(UTC), time.monotonic()
    cases = listed_cases(asked.inputs, asked.split, asked.out, asked.report)
    with Server(asked.url, asked.model, asked.timeout_s) as server:
        about = server.about()
        journal = Journal(asked.out, about.identity, about.classes)
        with journal.opened():
            remote = Remote(server, about, journal, asked.in_flight, progress)
            before = run_cases(remote, journal, cases, asked.again)
            tables.write_tables(journal.folder, journal.lines.values(), about.classes)
    lines = tuple(journal.lines[case.name] for case in cases)
    source = f"{about.source} by {asked.model} at {asked.url}"
    result = Predictions(source, asked.out, lines, before, remote.wall_s, remote.server_s)
    if asked.report is not None:
        document: dict[str, Any] = {
            "command": asked.again,
            "created": begun.isoformat(timespec="seconds"),
            "source": source,
            "identity": dict(about.identity),
            "classes": list(about.classes),
            "versions": {"voxbench": __version__, "voxbench of the server": about.voxbench},
            "seconds": {
                "whole": round(time.monotonic() - started, 3),
                "cases": round(remote.wall_s, 3),
                "server": round(remote.server_s, 3),
            },
            "folder": str(asked.out.absolute()),
            "predicted": len(lines) - len(result.failed),
            "predicted_before": before,
            "failed": len(result.failed),
            "cases": tables.entries(lines, about.classes),
        }
        write_text(asked.report, tables.json_text(document))
    return result
