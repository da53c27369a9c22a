"""The workers of the open variants, a process each."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from bench.machine import host
from bench.peers import Peer
from bench.pipeline.preparation import largest_case
from bench.worker.messages import (
    Broke,
    Built,
    CommandRan,
    HasDevice,
    MakeReady,
    Open,
    OpenCommand,
    Opened,
    Predict,
    Predicted,
    RunCommand,
)
from bench.worker.process import WorkerLostError, WorkerProcess
from engines.base import Availability
from reports.records.record import Case

LEAST_RESERVE = 2**30  # bytes of memory that are left free
GRACE_S = 60.0  # beyond the time of a command, for its worker to end it and to say so


class Fleet:
    """Opens and closes workers, and knows whether memory has room for one more; only one of them works at a time.

    Args:
        cases: of the run.
        log: the file that takes what the worker of a variant prints.
        timeout_s: for each reply of a worker.
    """

    def __init__(self, cases: Sequence[Case], log: Callable[[str], Path], timeout_s: float) -> None:
        self._cases = cases
        self._log = log
        self._timeout_s = timeout_s
        self._workers: dict[str, WorkerProcess] = {}
        self._requests: dict[str, Open | OpenCommand] = {}
        self._building: dict[str, float] = {}  # by name, until when at the latest
        self._largest: dict[str, int] = {}  # bytes of memory that a worker took at most, by where
        self._largest_case: dict[str, int] = {}  # bytes of the case that takes most, by variant
        self._device_memory: tuple[int, int] | None = None  # free and total, when the last worker was built or open

    def know(self, requests: Iterable[Open | OpenCommand]) -> None:
        """Take the requests of variants that may be reopened, whether or not they have been opened."""
        self._requests |= {request.name: request for request in requests}

    def request(self, name: str) -> Open | OpenCommand:
        """By which a variant was opened, or would be."""
        return self._requests[name]

    @property
    def open_names(self) -> list[str]:
        """Variants that have a worker, but for those that are being built."""
        return [name for name in self._workers if name not in self._building]

    @property
    def building(self) -> list[str]:
        """Variants that are being built."""
        return list(self._building)

    def begin(self, request: Open | OpenCommand) -> None:
        """Launch a worker and have it build a variant, without waiting for that, and without warming up."""
        name = request.name
        self._requests[name] = request
        self._workers[name] = WorkerProcess(request.target.threads, self._log(name))
        turns = 1 + len(self._building) if request.target.on_cuda else 1  # a GPU is had by one build after the other
        self._building[name] = time.monotonic() + turns * self._timeout_s
        with suppress(WorkerLostError):  # the reply will say so
            self._workers[name].send(replace(request, warm=False) if isinstance(request, Open) else request)

    def built(self) -> tuple[str, Built | Opened | Availability | Broke]:
        """Wait for the first of those that are being built: its name and the reply, `Broke` also where it hung."""
        while True:
            connections = {name: self._workers[name].connection for name in self._building}
            first = min(self._building, key=lambda name: self._building[name])
            ready = wait(connections.values(), max(0.0, self._building[first] - time.monotonic()))
            name = next((each for each, connection in connections.items() if connection in ready), first)
            reply = self._received(name) if ready else Broke(str(self._workers[name].given_up(self._timeout_s)))
            if not isinstance(reply, HasDevice):
                break
            self._building[name] = time.monotonic() + self._timeout_s  # its own time, without that of those before it
        del self._building[name]
        if isinstance(reply, Built | Opened):
            self._note_memory(self._requests[name], reply)
        return name, reply

    def _received(self, name: str) -> HasDevice | Built | Opened | Availability | Broke:
        try:
            reply: HasDevice | Built | Opened | Availability | Broke = self._workers[name].receive(self._timeout_s)
        except WorkerLostError as lost:
            return Broke(str(lost))
        return reply

    def warm_up(self, name: str) -> Opened | Broke:
        """Warm up a variant that is built."""
        reply: Opened | Broke = self._ask(name, MakeReady())
        if isinstance(reply, Opened):
            self._note_memory(self._requests[name], reply)
        return reply

    def reopen(self, name: str) -> Opened | Availability | Broke:
        """Build a variant again, whose worker was closed, and warm it up; `Broke` also where it died or hung."""
        request = self._requests[name]
        self._workers[name] = WorkerProcess(request.target.threads, self._log(name))
        reply: Opened | Availability | Broke = self._ask(name, request)
        return reply

    def predict(
        self, name: str, images: tuple[Path, ...], mask: Path, meanwhile: Callable[[], None], every_s: float
    ) -> Predicted | Broke:
        """Have the worker run a case; `meanwhile` is called each time that `every_s` seconds have gone by."""
        reply: Predicted | Broke = self._ask(name, Predict(images, mask), meanwhile, every_s)
        return reply

    def run_command(
        self, name: str, request: RunCommand, meanwhile: Callable[[], None], every_s: float
    ) -> CommandRan | Broke:
        """Have the worker of an own command run it, likewise; it is the worker that stops what takes too long."""
        timeout_s = self._timeout_s * len(request.cases) + GRACE_S
        reply: CommandRan | Broke = self._ask(name, request, meanwhile, every_s, timeout_s=timeout_s)
        return reply

    def starts_processes(self, name: str) -> bool:
        """Whether a variant runs its cases by processes that it starts beside its worker's."""
        request = self._requests[name]
        return isinstance(request, Open) and isinstance(request.backend, Peer) and request.backend.processes

    def note_memory(self, memory_bytes: int) -> None:
        """Note what a worker took of the machine's memory while it ran a case, where that was not seen before."""
        self._largest["machine"] = max(self._largest.get("machine", 0), memory_bytes)

    def pid(self, name: str) -> int:
        """The process of a variant's worker."""
        return self._workers[name].pid

    def close(self, name: str) -> None:
        """Stop the worker of a variant."""
        self._building.pop(name, None)
        self._workers.pop(name).stop()

    def close_all_but(self, names: Iterable[str]) -> None:
        """Stop every worker but those of these variants."""
        for name in set(self._workers) - set(names):
            self.close(name)

    def has_room(self, request: Open | OpenCommand) -> bool:
        """Whether memory, also of the device where that is known, suffices for one more worker as large as any yet.

        Those that are being built count as if they had taken nothing yet; and every worker as if it had not run its
        largest case, whose memory it may keep. Where it does not, there is one at a time that has it.
        """
        more = 1 + len(self._building)
        workers = [*(self._requests[name] for name in self._workers), request]
        kept = sum(self._case_bytes(own) for own in workers if _keeps(own))
        cases = kept + max((self._case_bytes(own) for own in workers if not _keeps(own)), default=0)
        if self._device_memory is not None:
            needed = more * self._largest.get("device", 0)
            if not fits(needed, *self._device_memory):
                return False
        return fits(more * self._largest.get("machine", 0) + cases, *host.memory())

    def _case_bytes(self, request: Open | OpenCommand) -> int:
        """Of the largest case; that of a device is not known, nor that of an own command."""
        if request.target.on_cuda or not isinstance(request, Open):
            return 0
        if request.name not in self._largest_case:
            self._largest_case[request.name] = largest_case(request.settings, self._cases)[1]
        return self._largest_case[request.name]

    def _ask(self, name: str, request: Any, *meanwhile: Any, timeout_s: float | None = None) -> Any:
        try:
            return self._workers[name].ask(request, timeout_s or self._timeout_s, *meanwhile)
        except WorkerLostError as lost:
            return Broke(str(lost))

    def _note_memory(self, request: Open | OpenCommand, reply: Built | Opened) -> None:
        taken = {"machine": self._workers[request.name].memory_bytes()}
        if reply.peak_memory_bytes is not None:
            taken["device" if request.target.on_cuda else "machine"] = reply.peak_memory_bytes
        for where, size in taken.items():
            self._largest[where] = max(self._largest.get(where, 0), size)
        if reply.device_memory is not None:
            self._device_memory = reply.device_memory


def fits(need: int, available: int, total: int) -> bool:
    """Whether `need` bytes leave a reserve of a tenth of all memory, and of `LEAST_RESERVE` at least."""
    return available >= need + max(total // 10, LEAST_RESERVE)


def _keeps(request: Open | OpenCommand) -> bool:
    """Whether its worker keeps the memory that a case took."""
    return isinstance(request, Open) and request.keep_memory
