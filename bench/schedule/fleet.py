"""The workers of the open variants, a process each."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.machine import host
from bench.peers import Peer
from bench.schedule import memory
from bench.worker.messages import Broke, CommandRan, Open, OpenCommand, Opened, Predict, Predicted, RunCommand
from bench.worker.process import WorkerLostError, WorkerProcess
from engines.base import Availability

GRACE_S = 60.0  # beyond the time of a command, for its worker to end it and to say so


class Fleet:
    """Opens and closes workers, and knows whether memory has room for one more; only one of them works at a time.

    Args:
        log: the file that takes what the worker of a variant prints.
        timeout_s: for each reply of a worker.
    """

    def __init__(self, log: Callable[[str], Path], timeout_s: float) -> None:
        self._log = log
        self._timeout_s = timeout_s
        self._workers: dict[str, WorkerProcess] = {}
        self._requests: dict[str, Open | OpenCommand] = {}
        self._largest: dict[str, int] = {}  # bytes of memory that a worker took at most, by where
        self._device_memory: tuple[int, int] | None = None  # free and total, when the last worker was open

    @property
    def open_names(self) -> list[str]:
        """Variants that have a worker."""
        return list(self._workers)

    def open(self, request: Open | OpenCommand) -> Opened | Availability | Broke:
        """Launch a worker and have it build a variant; `Broke` also where it died or hung."""
        self._requests[request.name] = request
        reply = self.reopen(request.name)
        if isinstance(reply, Opened):
            self._note_memory(request, reply)
        return reply

    def reopen(self, name: str) -> Opened | Availability | Broke:
        """Open a variant again, whose worker was closed."""
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
        self._workers.pop(name).stop()

    def close_all_but(self, names: Iterable[str]) -> None:
        """Stop every worker but those of these variants."""
        for name in set(self._workers) - set(names):
            self.close(name)

    def has_room(self) -> bool:
        """Whether memory, also of the device where that is known, suffices for one more worker as large as any yet."""
        if self._device_memory is not None and not memory.fits(self._largest.get("device", 0), *self._device_memory):
            return False
        return memory.fits(self._largest.get("machine", 0), *host.memory())

    def _ask(self, name: str, request: Any, *meanwhile: Any, timeout_s: float | None = None) -> Any:
        try:
            return self._workers[name].ask(request, timeout_s or self._timeout_s, *meanwhile)
        except WorkerLostError as lost:
            return Broke(str(lost))

    def _note_memory(self, request: Open | OpenCommand, opened: Opened) -> None:
        taken = {"machine": self._workers[request.name].memory_bytes()}
        if opened.peak_memory_bytes is not None:
            taken["device" if request.target.on_cuda else "machine"] = opened.peak_memory_bytes
        for where, size in taken.items():
            self._largest[where] = max(self._largest.get(where, 0), size)
        if opened.device_memory is not None:
            self._device_memory = opened.device_memory
