"""What has cases run, wherever that is: one worker of this machine, or actors on the nodes of a cluster."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bench.plan.opening import Opening
from bench.predict.journal import Journal
from bench.predict.source import Source
from bench.progress import Progress
from bench.worker.messages import BatchCase, Opened


@dataclass
class NodeRow:
    """What an actor has done.

    Attributes:
        node: its name. cores: that it computes on.
        cases: that it has predicted. seconds: in which it had any.
        lost: why it is gone; None where it came to the end.
    """

    node: str
    device: str
    cores: int
    cases: int = 0
    seconds: float = 0.0
    lost: str | None = None


@dataclass(frozen=True)
class Work:
    """What is to be done, but for the cases.

    Attributes:
        opening: of the source, on this machine.
        journal: where lines and masks go.
    """

    source: Source
    opening: Opening
    journal: Journal
    read_ahead: int
    timeout_s: float
    progress: Progress


class Runner(Protocol):
    """Runs cases into a journal.

    Attributes:
        opened: what a worker's backend reported when it was ready; None before.
        peak_memory_bytes: of the workers that came to their end; None before.
        wall_s: seconds in which there were cases to run and a worker was ready.
        forward_s: of the predicted cases, what their forwards took.
        nodes: a row for each actor; none where there is no cluster.
    """

    opened: Opened | None
    peak_memory_bytes: int | None
    wall_s: float
    forward_s: float
    nodes: Sequence[NodeRow]

    @property
    def worker_s(self) -> float:
        """Seconds of all workers together, of which `forward_s` is a part."""
        ...

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase]) -> None:
        """Run fresh cases and those that failed before.

        Raises:
            InputError: the backend cannot run there.
            StorageError: a mask or a line cannot be written.
            BackendLostError: the backend cannot be built, or loses its worker again and again.
        """
        ...


class Machines(Protocol):
    """Where cases can be run."""

    def runner(self, work: Work) -> AbstractContextManager[Runner]:
        """Within it, cases can be run.

        Raises:
            InputError: what is needed for that is not there.
        """
        ...
