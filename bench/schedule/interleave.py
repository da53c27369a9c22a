"""Interleaving: in every round each case is run by all backends one after the other, in random order.

So each sample has its baseline beside it, and whatever the machine does in between strikes both.
"""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.errors import BackendLostError
from bench.machine.system_load import Counters, between
from bench.machine.usage import INTERVAL_S, UsageMeter
from bench.progress import Progress
from bench.schedule import memory
from bench.schedule.run_directory import RunDirectory
from bench.worker.messages import Broke, Open, Opened, Predict, Predicted
from bench.worker.process import WorkerLostError, WorkerProcess
from engines.base import Availability
from reports.records.record import (
    CONFIRMATION,
    FAILED,
    INTERLEAVED,
    SKIPPED,
    WARMUP,
    Case,
    RunRecord,
    Sample,
    VariantRecord,
)


class Duel:
    """The backends of a run, each in its own worker, only one of them working at a time.

    Attributes:
        first_round: of the open group; the masks of a backend's first round are kept.
    """

    def __init__(
        self, directory: RunDirectory, run: RunRecord, records: Mapping[str, VariantRecord], progress: Progress
    ) -> None:
        self.records = dict(records)
        self._directory = directory
        self._run = run
        self._progress = progress
        self._workers: dict[str, WorkerProcess] = {}
        self._requests: dict[str, Open] = {}
        self._start = self.next_start if any(record.samples for record in self.records.values()) else 0
        self._starting_s = self._running_s = 0.0
        self._largest: dict[str, int] = {}  # bytes of memory that a worker took at most, by where
        self._device_memory: tuple[int, int] | None = None  # free and total, when the last worker was open
        self.first_round = 0

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self._directory.folder

    @property
    def live(self) -> list[str]:
        """Backends that are open and have not failed."""
        return list(self._workers)

    @property
    def next_start(self) -> int:
        """A number that no start of the processes has had, also before the run was interrupted."""
        return 1 + max((s.launch for record in self.records.values() for s in record.samples), default=-1)

    @property
    def paid_off(self) -> bool:
        """Whether the rounds since the last start have taken at least as long as it did."""
        return self._running_s >= self._starting_s

    def open(self, request: Open) -> None:
        """Build one backend in a new worker; record why if that is not possible."""
        begin = time.monotonic()
        self._open(request)
        self._starting_s += time.monotonic() - begin

    def _open(self, request: Open) -> None:
        match self._begin(request):
            case Opened() as reply:
                self._update(
                    request.name,
                    build_s=reply.build_s,
                    build_cached=reply.cached,
                    evidence=reply.evidence,
                    peak_memory_bytes=reply.peak_memory_bytes,
                    warmup={**self.records[request.name].warmup, **reply.warmup},
                    log=self._log(request.name),
                )
                self._weigh(request.name, reply)
                self._sample(request.name, WARMUP, 0, self._run.cases[0])
            case Availability() as reply:
                self._close(request.name)
                self._directory.log(request.name).unlink(missing_ok=True)
                self.skip(request.name, reply)
                if request.name == self._run.baseline:
                    raise BackendLostError(f"the baseline {request.name} cannot run: {reply.reason}; {reply.fix}")
            case Broke() as reply:
                self._fail(request.name, reply.reason)

    def skip(self, name: str, found: Availability) -> None:
        """Record that a backend cannot run, and why."""
        self._update(name, status=SKIPPED, reason=found.reason, fix=found.fix)

    def restart(self, names: Sequence[str], start: int) -> None:
        """Stop all backends and open these anew, as start `start`; what an earlier one of that number left, goes.

        Their build stays that of the first time. One that does not open again has failed.
        """
        begin = time.monotonic()
        self.keep(())
        for name in names:
            samples = [s for s in self.records[name].samples if s.launch != start]
            # Runs from before there were starts confirmed within the duels' processes.
            self._update(name, samples=tuple(s for s in samples if (s.phase, s.launch) != (CONFIRMATION, 0)))
        self._start = start
        for name in _shuffled(names, f"{self._run.settings.seed} start {start}"):
            match self._begin(self._requests[name]):
                case Opened() as reply:
                    peak, again = self.records[name].peak_memory_bytes or 0, reply.warmup
                    self._update(
                        name,
                        peak_memory_bytes=max(peak, reply.peak_memory_bytes),
                        warmup={**self.records[name].warmup, **{f"{key}_{start}": again[key] for key in again}},
                    )
                    self._sample(name, WARMUP, 0, self._run.cases[0])
                case Availability() | Broke() as reply:
                    self._fail(name, f"start {start}: {reply.reason}")
        self._starting_s, self._running_s = time.monotonic() - begin, 0.0

    def complete(self, names: Sequence[str], phase: str, start: int, rounds: Iterable[int]) -> bool:
        """Whether these backends have had every case in these rounds of that start."""
        wanted = {(start, number, case.name) for number in rounds for case in self._run.cases}
        return all(
            wanted <= {(s.launch, s.round, s.case) for s in self.records[name].samples if s.phase == phase}
            for name in names
        )

    def has_room(self) -> bool:
        """Whether memory, also of the device where it tells, suffices for one more worker as large as the largest."""
        if self._device_memory is not None and not memory.fits(self._largest.get("device", 0), *self._device_memory):
            return False
        return memory.fits(self._largest.get("machine", 0), *memory.machine())

    def round(self, phase: str, number: int) -> None:
        """Run every case through every live backend once; a case that all of them have had already is left out."""
        begin = time.monotonic()
        shuffle = random.Random(f"{self._run.settings.seed} {phase} {number}").shuffle
        cases = list(self._run.cases)
        shuffle(cases)
        for case in cases:
            order = self.live
            shuffle(order)
            if all(self._has(name, phase, number, case) for name in order):
                for _ in order:
                    self._progress.advance()
                continue
            self._forget(phase, number, case)
            for name in order:
                self._sample(name, phase, number, case)
                self._progress.advance(f"{case.name} {name}")
        self._running_s += time.monotonic() - begin

    def keep(self, names: Iterable[str]) -> None:
        """Close every worker but these."""
        for name in set(self._workers) - set(names):
            self._close(name)

    def put(self, record: VariantRecord) -> None:
        """Take a changed record and save it."""
        self.records[record.name] = record
        self._directory.save_variant(record)

    def _begin(self, request: Open) -> Opened | Availability | Broke:
        """Start a worker and have it build a backend; `Broke` also where it died or hung."""
        self._requests[request.name] = request
        worker = WorkerProcess(request.target.threads, self._directory.log(request.name))
        self._workers[request.name] = worker
        try:
            reply: Opened | Availability | Broke = worker.ask(request, self._run.settings.timeout_s)
        except WorkerLostError as lost:
            return Broke(str(lost))
        return reply

    def _weigh(self, name: str, opened: Opened) -> None:
        on_device = self._requests[name].target.on_cuda
        taken = {"machine": self._workers[name].memory_bytes()}
        taken["device" if on_device else "machine"] = opened.peak_memory_bytes
        for where, size in taken.items():
            self._largest[where] = max(self._largest.get(where, 0), size)
        self._device_memory = opened.device_memory

    def _sample(self, name: str, phase: str, number: int, case: Case) -> None:
        if name not in self._workers:
            return
        kept = phase == INTERLEAVED and number == (0 if name == self._run.baseline else self.first_round)
        mask = (self._directory.prediction if kept else self._directory.repeat)(name, case.name)
        worker = self._workers[name]
        meter, before = UsageMeter(worker.pid), Counters.now()
        try:
            request, patience = Predict(Path(case.image), mask), self._run.settings.timeout_s
            reply = worker.ask(request, patience, meter.tick, INTERVAL_S)
        except WorkerLostError as lost:
            reply = Broke(str(lost))
        if isinstance(reply, Broke):
            self._fail(name, reply.reason)
            return
        usage, load = meter.usage(), between(before, Counters.now(), reply.cpu_ns * 1e-9)
        sample = _sample(phase, number, case, reply)
        sample = replace(sample, workers=len(self._workers), launch=self._start, system_load=load, usage=usage)
        record = self.records[name]
        self._update(
            name,
            samples=(*record.samples, sample),
            peak_memory_bytes=max(record.peak_memory_bytes or 0, reply.peak_memory_bytes),
        )

    def _has(self, name: str, phase: str, number: int, case: Case) -> bool:
        return any(_is(sample, phase, number, case) for sample in self.records[name].samples)

    def _forget(self, phase: str, number: int, case: Case) -> None:
        """Drop what an interrupted run left of a case: a sample without its baseline beside it says nothing."""
        for name in self.live:
            samples = self.records[name].samples
            kept = tuple(sample for sample in samples if not _is(sample, phase, number, case))
            if len(kept) < len(samples):
                self._update(name, samples=kept)

    def _fail(self, name: str, reason: str) -> None:
        self._close(name)
        self._update(name, status=FAILED, reason=reason, log=self._log(name))
        self._progress.note(f"{name} failed: {reason}")
        if name == self._run.baseline:
            raise BackendLostError(f"the baseline {name} failed: {reason}; log: {self._directory.log(name)}")

    def _close(self, name: str) -> None:
        self._workers.pop(name).stop()

    def _log(self, name: str) -> str:
        return str(self._directory.log(name).relative_to(self._directory.folder))

    def _update(self, name: str, **changes: Any) -> None:
        self.put(replace(self.records[name], **changes))


def _shuffled(names: Sequence[str], seed: str) -> list[str]:
    return random.Random(seed).sample(names, len(names))


def _is(sample: Sample, phase: str, number: int, case: Case) -> bool:
    return (sample.phase, sample.round, sample.case) == (phase, number, case.name)


def _sample(phase: str, number: int, case: Case, reply: Predicted) -> Sample:
    outcome = reply.outcome
    return Sample(
        phase=phase,
        round=number,
        case=case.name,
        case_ns=outcome.case_ns,
        stages_ns=outcome.stages_ns,
        device_ns=outcome.device_ns,
        tiles=outcome.tiles,
        subtype=outcome.subtype,
        started_unix_s=reply.started_unix_s,
        cpu_ns=reply.cpu_ns,
        gpu=reply.gpu,
        roi=outcome.roi,
    )
