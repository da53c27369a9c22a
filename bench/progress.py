"""How a run tells what it is doing; the command line decides how that looks."""

from typing import Protocol


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
