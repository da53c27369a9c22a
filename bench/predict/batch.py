"""Has a worker run cases, follows their lines, and starts another worker where one breaks: that costs a case."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BackendLostError, InputError, StorageError
from bench.plan.opening import Opening
from bench.predict.journal import IN_FLIGHT, LOG, Journal
from bench.predict.runner import NodeRow
from bench.progress import Progress
from bench.worker.in_flight import InFlight
from bench.worker.lines import OK, Line
from bench.worker.messages import BatchCase, BatchRan, Broke, Opened, PredictBatch
from bench.worker.process import WorkerLostError, WorkerProcess
from engines.base import Availability

MOST_LOST = 5  # workers in a row, without a case that was predicted between them: then it is not the cases
_EVERY_S = 0.1  # seconds between two looks at the journal


class _CaseError(Exception):
    """The worker is gone, or of no more use; the message is the reason of the case that it had, `number` if known."""

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason)
        self.number = number


class Batch:
    """Predicts cases into the journal's folder.

    Attributes:
        opened, peak_memory_bytes, wall_s, forward_s: as of `bench.predict.runner.Runner`.
        broke: names of the cases that failed because their worker broke.
    """

    nodes: Sequence[NodeRow] = ()

    def __init__(
        self, opening: Opening, journal: Journal, read_ahead: int, timeout_s: float, progress: Progress
    ) -> None:
        self.opened: Opened | None = None
        self.peak_memory_bytes: int | None = None
        self.wall_s = self.forward_s = 0.0
        self.broke = set[str]()
        self._opening = opening
        self._journal = journal
        self._read_ahead = read_ahead
        self._timeout_s = timeout_s
        self._progress = progress
        self._worker: WorkerProcess | None = None
        self._lines: dict[str, Line] = {}  # of this call, by case
        self._lost = 0

    @property
    def worker_s(self) -> float:
        """As of `Runner`: there is one worker."""
        return self.wall_s

    def run(self, fresh: Iterable[BatchCase], failed: Iterable[BatchCase]) -> None:
        """Run the fresh cases in a stream, then each that failed before alone, so that what breaks is its own fault.

        As of `Runner`.
        """
        try:
            self.go_on(list(fresh), list(failed))
        finally:
            self.stop()

    def go_on(self, queue: list[BatchCase], alone: Sequence[BatchCase] = ()) -> None:
        """As `run`, but the worker stays open for more cases."""
        alone = list(alone)
        while queue or alone:
            if queue:
                queue, suspects = self._run(queue)
                alone += suspects
            else:
                self._run(alone[:1])
                alone = alone[1:]

    def open(self) -> Opened:
        """Have a worker ready, and return what its backend reports.

        Raises:
            as `run`
        """
        self._ready()
        assert self.opened is not None
        return self.opened

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        (self._journal.folder / IN_FLIGHT).unlink(missing_ok=True)

    def _run(self, cases: list[BatchCase]) -> tuple[list[BatchCase], list[BatchCase]]:
        """Run them as far as one worker comes; return those that are left, and of these apart which it had in hand."""
        try:
            self._stream(cases)
        except _CaseError as error:
            suspects = self._charge(cases, error)
            apart = {case.name for case in suspects}
            return [case for case in cases if not (self._ended(case) or case.name in apart)], suspects
        return [], []

    def _stream(self, cases: Sequence[BatchCase]) -> None:
        """Have the worker run them.

        Raises:
            _CaseError: it broke.
        """
        worker, folder = self._ready(), self._journal.folder.absolute()
        task = self._opening.task
        in_flight = folder / IN_FLIGHT
        request = PredictBatch(
            tuple(cases), folder, folder / self._journal.path.name, in_flight, task.channels, task.classes,
            self._read_ahead,
        )  # fmt: skip
        watch, begun = _Patience(in_flight, self._timeout_s), time.monotonic()
        in_flight.unlink(missing_ok=True)

        def look() -> None:
            self._follow()
            watch.look()

        try:
            reply = worker.ask(request, float("inf"), look, _EVERY_S)
        except WorkerLostError as lost:
            raise _CaseError(str(lost)) from None
        finally:
            self.wall_s += time.monotonic() - begun
            self._follow()
        if isinstance(reply, Broke):
            if reply.no_room:
                reason = reply.reason.removeprefix("StorageError: ")
                raise StorageError(f"{reason.partition(';')[0]}; make room")
            raise _CaseError(reply.reason)
        assert isinstance(reply, BatchRan), reply
        self.peak_memory_bytes = max(reply.peak_memory_bytes or 0, self.peak_memory_bytes or 0) or None

    def _follow(self) -> None:
        for line in self._journal.show(self._progress):
            self._lines[line.case] = line
            if line.status == OK:
                self._lost = 0
                self.forward_s += line.seconds.get("forward", 0.0)

    def _ended(self, case: BatchCase) -> bool:
        """Whether the case has failed in this call, or its mask is on disk."""
        line = self._lines.get(case.name)
        return line is not None and (line.status != OK or (self._journal.folder / case.mask).is_file())

    def _charge(self, cases: Sequence[BatchCase], error: _CaseError) -> list[BatchCase]:
        """Give the case that most likely broke the worker its row, and return the others that it had in hand."""
        numbers, reason = InFlight.of(self._journal.folder / IN_FLIGHT).numbers, str(error)
        self.stop()
        self._follow()
        if error.number is not None:
            numbers = (error.number, *(number for number in numbers if number != error.number))
        in_hand = [cases[number] for number in numbers if not self._ended(cases[number])]
        left = (case for case in cases if not self._ended(case))
        guilty = in_hand[0] if in_hand else next(left, None)
        if guilty is not None:  # else it ended after the last case
            self.broke.add(guilty.name)
            self._journal.fail(guilty, reason)
        self._follow()
        self._lost += 1
        if self._lost >= MOST_LOST:
            raise BackendLostError(
                f"{self._name} failed: {self._lost} workers were lost one after the other, the last time: {reason}; "
                f"log: {self._log}"
            )
        return in_hand[1:]

    def _ready(self) -> WorkerProcess:
        """An open worker: the one there is, or a new one."""
        if self._worker is not None:
            return self._worker
        worker = self._worker = WorkerProcess(self._opening.open.target.threads, self._log)
        try:
            reply: Any = worker.ask(self._opening.open, self._timeout_s)
        except WorkerLostError as lost:
            raise BackendLostError(f"{self._name} cannot be opened: {lost}; log: {self._log}") from None
        if isinstance(reply, Availability):
            raise InputError(f"{self._name}: {reply.reason}" + (f"; {reply.fix}" if reply.fix else ""))
        if isinstance(reply, Broke):
            raise BackendLostError(f"{self._name} cannot be opened: {reply.reason}; log: {self._log}")
        self.opened = reply
        return worker

    @property
    def _name(self) -> str:
        return self._opening.open.name

    @property
    def _log(self) -> Path:
        return self._journal.folder / LOG


class _Patience:
    """Ends when a case has been in one hand for too long."""

    def __init__(self, in_flight: Path, timeout_s: float) -> None:
        self._path = in_flight
        self._timeout_s = timeout_s
        self._since: dict[int, tuple[int, float]] = {}  # by place: the number of its case, and when it came

    def look(self) -> None:
        """Look once.

        Raises:
            _CaseError: one has.
        """
        now = time.monotonic()
        for place, number in enumerate(InFlight.of(self._path).places):
            if number is None:
                self._since.pop(place, None)
            elif self._since.get(place, (None, now))[0] != number:
                self._since[place] = (number, now)
            elif now - self._since[place][1] > self._timeout_s:
                raise _CaseError(
                    f"not done within {self._timeout_s:g} s; its worker was stopped (--timeout gives it longer)", number
                )
