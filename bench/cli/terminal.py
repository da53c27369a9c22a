"""A run's progress on a terminal, or as plain lines where there is none."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from bench.progress import Standing
from reports.formatting import factor

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_SECONDS_BETWEEN_LINES = 20
_SECONDS_BETWEEN_TABLES = 1.0  # on a terminal


class PlainProgress:
    """A line when a task begins, now and then how far it is, and now and then a table of where the variants stand."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._task, self._total, self._done = "", 0, 0
        self._begun = self._shown = 0.0
        self._tabled, self._rows = time.monotonic(), ""

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
        with suppress(OSError):  # closed, or a full disk: what is measured does not depend on who reads this
            print(line, file=self._stream, flush=True)

    def stand(self, rows: Callable[[], Sequence[Standing]]) -> None:
        """As a table in lines, where it has changed and the last one is some time ago."""
        now = time.monotonic()
        if now - self._tabled < _SECONDS_BETWEEN_LINES:
            return
        cells = [_cells(row) for row in rows()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)
        text = "\n".join(f"  {line.rstrip()}" for line in lines)
        if text != self._rows:
            self._tabled, self._rows = now, text
            self.note(text)


class LiveProgress:
    """A table of where the variants stand, and under it a bar with the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[doing]}"), console=console,
        )  # fmt: skip
        self._rows: Sequence[Standing] = ()
        self._stood = -_SECONDS_BETWEEN_TABLES
        # It is drawn while cases are timed: milliseconds of a core, and therefore seldom.
        self._live = Live(get_renderable=self._shown, console=console, refresh_per_second=1)
        self._task: object = None

    def __enter__(self) -> "LiveProgress":
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):  # the terminal is gone, as of a process that outlives its session
            self._live.stop()

    def start(self, task: str, total: int) -> None:
        self._task = self._bar.add_task(task, total=total, doing="")

    def advance(self, doing: str = "") -> None:
        self._bar.update(self._task, advance=1, doing=doing)  # type: ignore[arg-type]

    def note(self, line: str) -> None:
        with suppress(OSError):
            self._live.console.print(line, markup=False, highlight=False)

    def stand(self, rows: Callable[[], Sequence[Standing]]) -> None:
        now = time.monotonic()
        if now - self._stood >= _SECONDS_BETWEEN_TABLES:
            self._rows, self._stood = rows(), now

    def _shown(self) -> "Group":
        from rich.console import Group

        return Group(*([_table(self._rows)] if self._rows else []), self._bar)


def progress(stream: TextIO) -> PlainProgress | LiveProgress:
    """Live where `stream` is a terminal, plain lines elsewhere."""
    return LiveProgress() if stream.isatty() else PlainProgress(stream)


def _cells(row: Standing) -> list[str]:
    return [row.name, "" if row.speedup is None else factor(row.speedup), row.accuracy, row.state]


def _table(rows: Sequence[Standing]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("variant", "speedup so far", "accuracy", "state", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    return table
