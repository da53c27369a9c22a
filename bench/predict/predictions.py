"""The whole of `bench predict`: cases listed, the source opened, what is not done yet predicted, tables written."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.data.layouts import CaseFiles
from bench.machine import host
from bench.plan.opening import Opening
from bench.predict import tables
from bench.predict.calls import Called, listed_cases, run_cases
from bench.predict.header import ShardHeader, identity_of_shard
from bench.predict.journal import Journal
from bench.predict.runner import Machines, NodeRow, Runner, Work
from bench.predict.source import Source
from bench.progress import Progress
from bench.schedule.run_directory import write_text
from bench.shard import Shard


@dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Attributes:
        split: of inputs that are data sets; None for all of them.
        machines: where cases are run.
        again: the command line, as typed: called once more, it goes on.
        shard: of the cases; None for all of them.
    """

    source: Source
    inputs: tuple[Path, ...]
    out: Path
    split: str | None
    report: Path | None
    read_ahead: int
    timeout_s: float
    again: str
    machines: Machines
    shard: Shard | None = None


@dataclass(frozen=True, kw_only=True)
class Predictions(Called):
    """What became of the cases of a call.

    Attributes:
        worker_s, forward_s: the time of all workers together, and what of it the forward took.
        nodes: what each actor of a cluster did.
    """

    worker_s: float
    forward_s: float
    nodes: tuple[NodeRow, ...]


def predict(asked: Asked, progress: Progress) -> Predictions:
    """Predict every case that is not done yet.

    Raises:
        InputError and its like: something cannot be used; of the cases none was begun.
        StorageError, BackendLostError, InterruptedRunError: it was stopped; what is done is kept, and the message
            names the command that goes on.
    """
    begun, started = datetime.now(UTC), time.monotonic()
    cases = listed_cases(asked.inputs, asked.split, asked.out, asked.report, progress)
    opening = asked.source.open(progress)
    journal, cases = _journal(asked, opening, cases)
    work = Work(asked.source, opening, journal, asked.read_ahead, asked.timeout_s, progress)
    with asked.machines.runner(work) as runner, journal.opened():
        before = run_cases(runner, journal, cases, progress, asked.again)
        result = Predictions(
            source=opening.source,
            folder=asked.out,
            lines=tuple(journal.lines[case.name] for case in cases),
            before=before,
            wall_s=runner.wall_s,
            worker_s=runner.worker_s,
            forward_s=runner.forward_s,
            nodes=tuple(runner.nodes),
        )
        tables.write_tables(journal.folder, journal.lines.values(), opening.task.classes)
    if asked.report is not None:
        spent = {"whole": time.monotonic() - started, "cases": runner.wall_s, "forward": runner.forward_s}
        own = _of_this_machine(opening, runner, result, spent)
        write_text(asked.report, result.report(asked.again, begun, opening.identity, opening.task.classes, own))
    return result


def _journal(asked: Asked, opening: Opening, cases: list[CaseFiles]) -> tuple[Journal, list[CaseFiles]]:
    """Of all cases, or of a shard; and those that it is of."""
    classes, shard = opening.task.classes, asked.shard
    if shard is None:
        return Journal(asked.out, opening.identity, classes), cases
    names = [case.name for case in cases]
    own = shard.names(names)
    header = ShardHeader(shard.number, shard.count, tuple(own), asked.again)
    identity, kept = {**opening.identity, **identity_of_shard(shard, names)}, set(own)
    return Journal(asked.out, identity, classes, header), [case for case in cases if case.name in kept]


def _of_this_machine(
    opening: Opening, runner: Runner, result: Predictions, spent: Mapping[str, float]
) -> dict[str, Any]:
    """What a report says of where cases ran, and how."""
    target, opened = opening.open.target, runner.opened
    return {
        "device": target.device,
        "threads": target.threads,
        "machine": host.describe(target.device).known(),
        "versions": host.versions(),
        "evidence": None if opened is None else opened.evidence,
        "build_s": None if opened is None else opened.build_s,
        "peak_memory_bytes": runner.peak_memory_bytes,
        "seconds": {name: round(value, 3) for name, value in spent.items()},
        "forward_share": result.forward_s / result.worker_s if result.forward_s else None,
        "nodes": [vars(row) for row in result.nodes],
    }
