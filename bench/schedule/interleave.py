"""Interleaving: in every round each case is run by all variants one after the other, in random order.

So each sample has its baseline beside it, and whatever the machine does in between strikes both.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.errors import BackendLostError, StorageError
from bench.machine.clock import clock_fault
from bench.machine.system_load import Counters, between
from bench.machine.usage import INTERVAL_S, UsageMeter
from bench.progress import Progress
from bench.schedule.fleet import Fleet
from bench.schedule.store import RunStore
from bench.worker.messages import Broke, Open, Opened, Predicted
from engines.base import Availability
from reports.records.record import FAILED, INTERLEAVED, SKIPPED, WARMUP, Case, EvidenceRecord, RunRecord, Sample

NO_ROOM = 16 * 2**20  # bytes


class Interleaver:
    """Takes the samples of a run in turns.

    Attributes:
        store: the records.
        fleet: the workers.
        first_round: of the open group; the masks of a variant's first round are kept.
        opening_s: seconds that a variant's last launch took, with its warm-up and the case before anything counts.
    """

    def __init__(self, store: RunStore, run: RunRecord, progress: Progress) -> None:
        self.store = store
        self.fleet = Fleet(store.directory.log, run.settings.timeout_s)
        self.first_round = 0
        self.opening_s: dict[str, float] = {}
        self._run = run
        self._progress = progress
        self._launch = store.next_launch if any(record.samples for record in store.records.values()) else 0
        self._launching_s = self._running_s = 0.0

    @property
    def run_share(self) -> float:
        """Time of the rounds since the last launch over that of the launch; infinite where that took none."""
        return self._running_s / self._launching_s if self._launching_s else float("inf")

    def open(self, request: Open) -> None:
        """Build one variant in a new worker; record why if that is not possible."""
        begin = time.monotonic()
        self._open(request)
        self.opening_s[request.name] = time.monotonic() - begin
        self._launching_s += self.opening_s[request.name]

    def skip(self, name: str, absent: Availability) -> None:
        """Record that a variant cannot run, and why."""
        self.store.update(name, status=SKIPPED, reason=absent.reason, fix=absent.fix)

    def relaunch(self, names: Sequence[str], launch: int) -> None:
        """Stop all variants and open these anew, as launch `launch`; what an earlier one of that number left, goes.

        Their build stays that of the first time. One that does not open again has failed.
        """
        begin = time.monotonic()
        self.fleet.close_all_but(())
        for name in names:
            self.store.drop_launch(name, launch)
        self._launch = launch
        for name in _shuffled(names, f"{self._run.settings.seed} start {launch}"):
            opening = time.monotonic()
            self._reopen(name, launch)
            self.opening_s[name] = time.monotonic() - opening
        self._launching_s, self._running_s = time.monotonic() - begin, 0.0

    def round(self, phase: str, number: int) -> None:
        """Run every case through every open variant once; a case that all of them have had already is left out."""
        begin = time.monotonic()
        shuffle = random.Random(f"{self._run.settings.seed} {phase} {number}").shuffle
        cases = list(self._run.cases)
        shuffle(cases)
        for case in cases:
            order = self.fleet.open_names
            shuffle(order)
            if all(self.store.has(name, phase, number, case) for name in order):
                for _ in order:
                    self._progress.advance()
                continue
            for name in self.fleet.open_names:
                self.store.drop(name, phase, number, case)
            for name in order:
                self._sample(name, phase, number, case)
                self._progress.advance(f"{case.name} {name}")
        self._running_s += time.monotonic() - begin

    def _open(self, request: Open) -> None:
        name = request.name
        match self.fleet.open(request):
            case Opened() as reply:
                self.store.update(
                    name,
                    build_s=reply.build_s,
                    build_cached=reply.cached,
                    evidence=EvidenceRecord(**reply.evidence),
                    peak_memory_bytes=reply.peak_memory_bytes,
                    warmup={**self.store.records[name].warmup, **reply.warmup},
                    log=self.store.log(name),
                )
                self._sample(name, WARMUP, 0, self._run.cases[0])
            case Availability() as reply:
                self.fleet.close(name)
                self.store.directory.log(name).unlink(missing_ok=True)
                self.skip(name, reply)
                if name == self._run.baseline:
                    raise BackendLostError(f"the baseline {name} cannot run: {reply.reason}; {reply.fix}")
            case Broke() as reply:
                self._fail(name, reply.reason + full_folders(request.target.cache, Path(tempfile.gettempdir())))

    def _reopen(self, name: str, launch: int) -> None:
        match self.fleet.reopen(name):
            case Opened() as reply:
                record = self.store.records[name]
                self.store.update(
                    name,
                    peak_memory_bytes=max(record.peak_memory_bytes or 0, reply.peak_memory_bytes),
                    warmup={**record.warmup, **{f"{key}_{launch}": value for key, value in reply.warmup.items()}},
                )
                self._sample(name, WARMUP, 0, self._run.cases[0])
            case Availability() | Broke() as reply:
                self._fail(name, f"launch {launch}: {reply.reason}")

    def _sample(self, name: str, phase: str, number: int, case: Case) -> None:
        if name not in self.fleet.open_names:
            return
        first = phase == INTERLEAVED and number == (0 if name == self._run.baseline else self.first_round)
        mask = self.store.mask(name, case, first)
        tree = self.fleet.starts_processes(name)
        meter, before, begin = UsageMeter(self.fleet.pid(name), tree=tree), Counters.now(), time.perf_counter_ns()
        reply = self.fleet.predict(name, tuple(map(Path, case.images)), mask, meter.tick, INTERVAL_S)
        waited_ns = time.perf_counter_ns() - begin
        if isinstance(reply, Broke):
            if reply.no_room:  # the next backend would fail alike
                reason = reply.reason.removeprefix("StorageError: ")
                raise StorageError(f"{reason}; then go on with: {self.store.directory.command_to_resume}")
            self._fail(name, reply.reason)
            return
        wrong = clock_fault(reply.timing.case_ns, reply.timing.stages_ns, waited_ns)
        if wrong is not None:
            self._fail(name, f"{case.name}: {wrong}")
            return
        usage, load = meter.usage(), between(before, Counters.now(), reply.cpu_ns * 1e-9)
        sample = _sample_of(reply, phase, number, case.name)
        sample = replace(sample, workers=len(self.fleet.open_names), launch=self._launch, system_load=load, usage=usage)
        peak = reply.peak_memory_bytes
        if tree:
            self.fleet.note_memory(meter.peak_memory_bytes)
            if self._run.settings.device == "cpu":  # elsewhere the peak is that of the device
                peak = max(peak, meter.peak_memory_bytes)
        self.store.append(name, sample, peak)

    def _fail(self, name: str, reason: str) -> None:
        self.fleet.close(name)
        self.store.update(name, status=FAILED, reason=reason, log=self.store.log(name))
        self._progress.note(f"{name} failed: {reason}")
        if name == self._run.baseline:
            raise BackendLostError(f"the baseline {name} failed: {reason}; log: {self.store.directory.log(name)}")


def full_folders(*folders: Path) -> str:
    """Which of these folders have no room; many runtimes do not say that it was this that broke their build."""
    full = [str(folder) for folder in folders if folder.exists() and shutil.disk_usage(folder).free < NO_ROOM]
    return f"; there is no room in {' and '.join(full)}" if full else ""


def _shuffled(names: Sequence[str], seed: str) -> list[str]:
    return random.Random(seed).sample(names, len(names))


def _sample_of(reply: Predicted, phase: str, number: int, case: str) -> Sample:
    timing = reply.timing
    return Sample(
        phase=phase,
        round=number,
        case=case,
        case_ns=timing.case_ns,
        stages_ns=timing.stages_ns,
        device_ns=timing.device_ns,
        tiles=timing.tiles,
        subtype=timing.subtype,
        started_unix_s=reply.started_unix_s,
        cpu_ns=reply.cpu_ns,
        gpu=reply.gpu,
        roi=timing.roi,
    )
