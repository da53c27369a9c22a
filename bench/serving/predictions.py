"""All of `bench predict --url`: cases listed, the server asked, what is not done yet predicted, tables written."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import __version__
from bench.predict import tables
from bench.predict.calls import Called, listed_cases, run_cases
from bench.predict.journal import Journal
from bench.progress import Progress
from bench.schedule.run_directory import write_text
from bench.serving.remote import Remote
from bench.serving.server import Server


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


@dataclass(frozen=True, kw_only=True)
class Predictions(Called):
    """What became of the cases of a call; `server_s` is what the server took for them."""

    server_s: float


def predict(asked: Asked, progress: Progress) -> Predictions:
    """Have the server predict every case that is not done yet.

    Raises:
        InputError and its like: something cannot be used; of the cases none was begun.
        StorageError, BackendLostError, InterruptedRunError: it was stopped; what is done is kept, and the message
            names the command that goes on.
    """
    begun, started = datetime.now(UTC), time.monotonic()
    cases = listed_cases(asked.inputs, asked.split, asked.out, asked.report, progress)
    with Server(asked.url, asked.model, asked.timeout_s) as server:
        about = server.about()
        journal = Journal(asked.out, about.identity, about.classes)
        with journal.opened():
            remote = Remote(server, about, journal, asked.in_flight, progress)
            before = run_cases(remote, journal, cases, progress, asked.again)
            tables.write_tables(journal.folder, journal.lines.values(), about.classes)
    result = Predictions(
        source=f"{about.source} by {asked.model} at {asked.url}",
        folder=asked.out,
        lines=tuple(journal.lines[case.name] for case in cases),
        before=before,
        wall_s=remote.wall_s,
        server_s=remote.server_s,
    )
    if asked.report is not None:
        spent = {"whole": time.monotonic() - started, "cases": remote.wall_s, "server": remote.server_s}
        own = {
            "versions": {"voxbench": __version__, "voxbench of the server": about.voxbench},
            "seconds": {name: round(value, 3) for name, value in spent.items()},
        }
        write_text(asked.report, result.report(asked.again, begun, about.identity, about.classes, own))
    return result
