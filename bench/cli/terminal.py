"""A run's progress on a terminal, or as plain lines where there is none."""

import time
from types import TracebackType
from typing import TextIO

_SECONDS_BETWEEN_LINES = 20


class PlainProgress:
    """A line when a task begins, and now and then how far it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._task, self._total, self._done = "", 0, 0
        self._begun = self._shown = 0.0

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start(self, task: str, total: int) -> None:
        self._task, self._total, self._done = task, total, 0
        self._begun = self._shown = time.monotonic()
        self.note(f"{task} ({total})" if total > 1 else task)

    def advance(self, _doing: str = "") -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._shown >= _SECONDS_BETWEEN_LINES and self._done < self._total:
            self._shown = now
            left = (now - self._begun) / self._done * (self._total - self._done)
            self.note(f"{self._task}: {self._done} of {self._total}, about {left:.0f} s left")

    def note(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class BarProgress:
    """A bar with the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[doing]}"), console=Console(stderr=True), refresh_per_second=4,
        )  # fmt: skip
        self._task: object = None

    def __enter__(self) -> "BarProgress":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def start(self, task: str, total: int) -> None:
        self._task = self._bar.add_task(task, total=total, doing="")

    def advance(self, doing: str = "") -> None:
        self._bar.update(self._task, advance=1, doing=doing)  # type: ignore[arg-type]

    def note(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False)


def progress(stream: TextIO) -> PlainProgress | BarProgress:
    """A bar where `stream` is a terminal, plain lines elsewhere."""
    return BarProgress() if stream.isatty() else PlainProgress(stream)
