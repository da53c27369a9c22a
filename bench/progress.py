"""How a run tells what it is doing; the command line decides how that looks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Standing:
    """What is known of a variant while a run goes on.

    Attributes:
        state: what it has come to, in words.
        speedup: over the baseline so far, without bounds; None before both have had a case.
        accuracy: in words; empty before it is known.
    """

    name: str
    state: str
    speedup: float | None
    accuracy: str


class Progress(Protocol):
    """Receives the events of a run."""

    def start(self, task: str, total: int) -> None:
        """A task of `total` steps begins; the one before it is over."""
        ...

    def advance(self, doing: str = "") -> None:
        """A step of the task is done."""
        ...

    def note(self, line: str) -> None:
        """Something worth a line of its own."""
        ...

    def stand(self, rows: Callable[[], Sequence[Standing]]) -> None:
        """Where the variants stand now; called often, so that `rows` is to be called only where they are shown."""
        ...


class Unshown:
    """Progress that nobody sees, where a library or another machine does the work."""

    def start(self, task: str, total: int) -> None: ...

    def advance(self, doing: str = "") -> None: ...

    def note(self, line: str) -> None: ...

    def stand(self, rows: Callable[[], Sequence[Standing]]) -> None: ...
