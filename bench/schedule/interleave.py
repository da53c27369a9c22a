"""Interleaving: in every round each case is run by all variants one after the other, in random order.

So each sample has its baseline beside it, and whatever the machine does in between strikes both. A command that runs
all cases in one call has its turn between two cases, drawn anew in each round.
"""

import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy

from bench.commands.runner import CommandCase
from bench.errors import BackendLostError, StorageError
from bench.machine.clock import clock_fault
from bench.machine.system_load import Counters, between
from bench.machine.usage import INTERVAL_S, UsageMeter
from bench.progress import Progress
from bench.schedule.fleet import Fleet
from bench.schedule.samples import fault_of_command, sample_of
from bench.schedule.standings import standings
from bench.schedule.store import RunStore
from bench.worker.messages import Broke, Built, CommandRan, Open, OpenCommand, Opened, Predicted, RunCommand
from engines.base import Availability
from reports.records.record import (
    FAILED,
    INTERLEAVED,
    SKIPPED,
    WARMUP,
    Case,
    EvidenceRecord,
    RunRecord,
    Sample,
)

NO_ROOM = 16 * 2**20  # bytes


class Interleaver:
    """Takes the samples of a run in turns.

    Attributes:
        store: the records.
        fleet: the workers.
        first_round: of the open group; of each case the first mask of a variant is kept.
        opening_s: seconds that a variant's last launch took, with its warm-up and the case before anything counts.
        waiting: open variants that are left out of rounds for now.
        accuracy: states of the variants whose accuracy is known, for whoever watches.
    """

    def __init__(self, store: RunStore, run: RunRecord, progress: Progress) -> None:
        self.store = store
        self.fleet = Fleet(run.cases, store.directory.log, run.settings.timeout_s)
        self.first_round = 0
        self.opening_s: dict[str, float] = {}
        self.waiting: set[str] = set()
        self.accuracy: Mapping[str, str] = {}
        self._run = run
        self._progress = progress
        self._launch = store.next_launch if any(record.samples for record in store.records.values()) else 0
        self._beside: dict[str, int] = {}  # how many others were being built at the same time at most
        self._launching_s = self._running_s = 0.0

    @property
    def run(self) -> RunRecord:
        """What is run."""
        return self._run

    def extend(self, run: RunRecord, first_round: int) -> None:
        """Go on with `run`, which has further variants, whose first round is that of this number."""
        self._run, self.first_round = run, first_round

    @property
    def run_share(self) -> float:
        """Time of the rounds since the last launch over that of the launch; infinite where that took none."""
        return self._running_s / self._launching_s if self._launching_s else float("inf")

    def open(
        self,
        next_one: Callable[[Sequence[Open | OpenCommand]], Open | OpenCommand | None],
        at_once: int,
        built: Callable[[str], None],
    ) -> list[str]:
        """Build variants in new workers, up to `at_once` side by side, and then warm up one after the other.

        One at a time is warmed up as it comes, so that what it takes of the memory is known before the next. What
        cannot be opened is recorded with its reason.

        Args:
            next_one: gives the request that may begin beside those that are being built; None where none may yet.
            built: called with the name of each that is.

        Returns:
            The names of all that were to be opened.
        """
        begin, begun = time.monotonic(), dict[str, float]()
        while True:
            while len(self.fleet.building) < at_once and (request := next_one(self._building)) is not None:
                begun[request.name] = time.monotonic()
                self._begin(request)
            if not self.fleet.building:
                break
            name = self._take_built()
            self.opening_s[name] = time.monotonic() - begun[name]
            built(name)
            if at_once == 1:
                self._warm_up_built(name)
            self._show()
        for name in begun if at_once > 1 else ():
            self._warm_up_built(name)
        self._launching_s += time.monotonic() - begin
        return list(begun)

    def open_one(self, request: Open | OpenCommand) -> None:
        """Build one variant in a new worker, and warm it up."""
        requests = [request]
        self.open(lambda _: requests.pop() if requests else None, 1, lambda _: None)

    def skip(self, name: str, absent: Availability) -> None:
        """Record that a variant cannot run, and why."""
        self.store.update(name, status=SKIPPED, reason=absent.reason, fix=absent.fix)

    def leave(self, name: str, reason: str) -> None:
        """Record that a variant takes no further part in the rounds, and why, and stop it."""
        self.fleet.close(name)
        self.waiting.discard(name)
        self.store.update(name, left=reason)
        self._progress.note(f"{name} leaves the race: {reason}")

    def relaunch(self, names: Sequence[str]) -> None:
        """Stop all variants and open these anew, as a launch whose number none has had.

        Their build stays that of the first time. One that does not open again has failed.
        """
        begin = time.monotonic()
        self.fleet.close_all_but(())
        launch = self._launch = self.store.next_launch
        for name in _shuffled(names, f"{self._run.settings.seed} start {launch}"):
            opening = time.monotonic()
            self._reopen(name, launch)
            self.opening_s[name] = time.monotonic() - opening
        self._launching_s, self._running_s = time.monotonic() - begin, 0.0

    def round(
        self,
        phase: str,
        number: int,
        cases: Sequence[Case],
        after_case: Callable[[int], None] | None = None,
        *,
        calls: bool = True,
    ) -> None:
        """Run every case through every open variant once, but for those that wait; one that all have had is left out.

        `after_case` is called behind each case with how many there were; it may let variants leave. Without `calls`
        the commands that run all cases in one call are left out.
        """
        begin = time.monotonic()
        cases = self._in_order(cases, phase, number)
        shuffle = random.Random(f"{self._run.settings.seed} {phase} {number} variants").shuffle
        done = 0
        for turn in self._with_calls(cases, phase, number) if calls else cases:
            if isinstance(turn, str):
                self._call(turn, phase, number)
                continue
            self._case(turn, phase, number, shuffle)
            done += 1
            if after_case is not None:
                after_case(done)
            self._show()
        self._running_s += time.monotonic() - begin

    def lacking(self, cases: Sequence[Case]) -> list[Case]:
        """Those of `cases` that an open variant, which does not wait, has had in no round of the open group."""
        names = [name for name in self.fleet.open_names if not (name in self.waiting or self._one_call(name))]
        rounds = range(self.first_round, sys.maxsize)
        return [case for case in cases if not all(self.store.has_had(name, case, rounds) for name in names)]

    def _show(self) -> None:
        self._progress.stand(lambda: standings(self._run, self.store, self.waiting, self.accuracy))

    def _case(self, case: Case, phase: str, number: int, shuffle: Callable[[list[str]], None]) -> None:
        """Run a case through every open variant, in random order."""
        order = [name for name in self.fleet.open_names if not (name in self.waiting or self._one_call(name))]
        shuffle(order)
        for _ in self.waiting:
            self._progress.advance()
        if self._is_done(case, phase, number, order):
            for _ in order:
                self._progress.advance()
            return
        for name in order:
            self.store.drop(name, phase, number, case)
        for name in order:
            self._sample(name, phase, number, case)
            self._progress.advance(f"{case.name} {name}")

    def _is_done(self, case: Case, phase: str, number: int, names: Sequence[str]) -> bool:
        """Whether all of `names` have had this case, or another variant has, whose baseline must stay beside it.

        Another one has left, or waits. What it was measured beside must not be replaced by a sample of another time.
        """
        records = self.store.records
        others = [name for name in records if name not in names and records[name].counts]
        had = [self.store.has(name, phase, number, case) for name in names]
        return all(had) or any(self.store.has(name, phase, number, case) for name in others)

    def _in_order(self, cases: Sequence[Case], phase: str, number: int) -> list[Case]:
        """In random order; in a race's first round so that the first cases are of all sizes, whatever their number."""
        seed = f"{self._run.settings.seed} {phase} {number}"
        if self._run.settings.race and (phase, number) == (INTERLEAVED, self.first_round):
            return spread_out(cases, seed)
        shuffled = list(cases)
        random.Random(seed).shuffle(shuffled)
        return shuffled

    def _one_call(self, name: str) -> bool:
        return self._run.settings.variants[name].one_call

    def _with_calls(self, cases: list[Case], phase: str, number: int) -> list[Case | str]:
        """The turns of a round: its cases, and the names of the commands that run all of them in one call.

        With such commands a round that was left half done is made anew as a whole.
        """
        names = self.fleet.open_names
        calls = sorted(filter(self._one_call, names))
        turns: list[Case | str] = [*cases]
        place = random.Random(f"{self._run.settings.seed} {phase} {number} calls")
        for name in place.sample(calls, len(calls)):
            turns.insert(place.randrange(len(turns) + 1), name)
        launches = {s.launch for s in self.store.records[self._run.baseline].samples if _place(s) == (phase, number)}
        if calls and not any(self.store.complete(names, phase, launch, [number], cases) for launch in launches):
            for name in names:
                self.store.drop_round(name, phase, number)
        return turns

    def _call(self, name: str, phase: str, number: int) -> None:
        if not self.store.has(name, phase, number, None):
            self._sample(name, phase, number, None)
        for _ in self._run.cases:
            self._progress.advance(name)

    @property
    def _building(self) -> list[Open | OpenCommand]:
        return list(map(self.fleet.request, self.fleet.building))

    def _begin(self, request: Open | OpenCommand) -> None:
        self.fleet.begin(request)
        self._beside[request.name] = 0
        for name in self.fleet.building:
            self._beside[name] = max(self._beside[name], len(self.fleet.building) - 1)

    def _take_built(self) -> str:
        """Wait for the next variant that is built, and record it where that is all, or where it failed."""
        name, reply = self.fleet.built()
        match reply:
            case Availability():
                self.fleet.close(name)
                self.store.directory.log(name).unlink(missing_ok=True)
                self.skip(name, reply)
                if name == self._run.baseline:
                    raise BackendLostError(f"the baseline {name} cannot run: {reply.reason}; {reply.fix}")
            case Broke():
                request, full = self.fleet.request(name), ""
                if isinstance(request, Open):  # it was to be built
                    full = full_folders(request.target.cache, Path(tempfile.gettempdir()))
                self._fail(name, reply.reason + full)
            case Built():
                if not self.store.records[name].samples:
                    self.store.update(name, build_s=reply.build_s)
            case Opened():  # an own command, which is not warmed up
                self._record_opened(name, reply)
        return name

    def _warm_up_built(self, name: str) -> None:
        """Warm up what was not skipped and did not fail; nothing else is built, since its own times say when it is."""
        if name not in self.fleet.open_names:
            return
        begin = time.monotonic()
        if isinstance(self.fleet.request(name), Open):
            reply = self.fleet.warm_up(name)
            if isinstance(reply, Broke):
                self._fail(name, reply.reason)
                return
            self._record_opened(name, reply)
        self._warm_up(name)
        self.opening_s[name] += time.monotonic() - begin

    def _record_opened(self, name: str, opened: Opened) -> None:
        record = self.store.records[name]
        if record.samples:  # an interrupted run opened it before, which was its build
            self._record_reopened(name, opened, self._launch)
            return
        self.store.update(
            name,
            build_s=opened.build_s,
            build_cached=opened.cached,
            built_beside=self._beside[name],
            evidence=EvidenceRecord(**opened.evidence),
            peak_memory_bytes=opened.peak_memory_bytes,
            warmup={**record.warmup, **opened.warmup},
            log=self.store.log(name),
        )

    def _record_reopened(self, name: str, opened: Opened, launch: int) -> None:
        """Its build stays that of the first time."""
        record = self.store.records[name]
        self.store.update(
            name,
            peak_memory_bytes=max((record.peak_memory_bytes or 0, opened.peak_memory_bytes or 0)) or None,
            warmup={**record.warmup, **{f"{key}_{launch}": value for key, value in opened.warmup.items()}},
        )

    def _reopen(self, name: str, launch: int) -> None:
        match self.fleet.reopen(name):
            case Opened() as reply:
                self._record_reopened(name, reply, launch)
                self._warm_up(name)
            case Availability() | Broke() as reply:
                self._fail(name, f"launch {launch}: {reply.reason}")

    def _warm_up(self, name: str) -> None:
        """Run the first case, which counts nowhere; a call over all has it for its only case."""
        self._sample(name, WARMUP, 0, self._run.cases[0])

    def _sample(self, name: str, phase: str, number: int, case: Case | None) -> None:
        """Take a sample: of a case, or of a call over all."""
        if name not in self.fleet.open_names:
            return
        first = phase == INTERLEAVED and not self.store.has_had(name, case, range(number))
        cases = self._run.cases if case is None else (case,)
        masks = [self.store.mask(name, each, first) for each in cases]
        self.store.directory.make_folders(masks)
        own, tree = self._run.settings.variants[name], self.fleet.starts_processes(name)
        meter = UsageMeter(self.fleet.pid(name), tree=tree, below=own.command is not None)
        before, begin = Counters.now(), time.perf_counter_ns()
        reply = self._predict(name, cases, masks, meter)
        waited_ns = time.perf_counter_ns() - begin
        if isinstance(reply, Broke):
            if reply.no_room:  # the next backend would fail alike
                reason = reply.reason.removeprefix("StorageError: ")
                raise StorageError(f"{reason}{self.store.directory.then_resume}")
            self._fail(name, reply.reason)
            return
        wrong = clock_fault(reply.case_ns, reply.stages_ns, waited_ns)
        if wrong is not None:
            self._fail(name, f"{cases[0].name}: {wrong}")
            return
        usage, load = meter.usage(), between(before, Counters.now(), reply.cpu_ns * 1e-9)
        sample = sample_of(reply, own, self._run, phase, number, cases)
        earlier = next(iter(self.store.records[name].samples), sample)
        # Here and not in the worker, whose processor time would be counted as that of the command.
        wrong = fault_of_command(self._run.task, sample, earlier, cases, masks) if own.command is not None else None
        if wrong is not None:
            self._fail(name, wrong)
            return
        sample = replace(sample, workers=len(self.fleet.open_names), launch=self._launch, system_load=load, usage=usage)
        self.store.append(name, sample, self._peak_memory(name, reply, meter.peak_memory_bytes))

    def _predict(
        self, name: str, cases: Sequence[Case], masks: Sequence[Path], meter: UsageMeter
    ) -> Predicted | CommandRan | Broke:
        images = [tuple(map(Path, case.images)) for case in cases]
        if self._run.settings.variants[name].command is None:
            return self.fleet.predict(name, images[0], masks[0], meter.tick, INTERVAL_S)
        files = (
            CommandCase(case.name, own, mask.absolute()) for case, own, mask in zip(cases, images, masks, strict=True)
        )
        request = RunCommand(tuple(files), self.store.directory.call_folder(name).absolute())
        return self.fleet.run_command(name, request, meter.tick, INTERVAL_S)

    def _peak_memory(self, name: str, reply: Predicted | CommandRan, read: int) -> int | None:
        """The most that a variant took, `read` at a time of the processes that it started.

        On a GPU it is that of the device, of which nobody knows what an own command took.
        """
        on_cpu = self._run.settings.device == "cpu"
        tree = isinstance(reply, CommandRan) or self.fleet.starts_processes(name)
        if tree:
            self.fleet.note_memory(read)
        if isinstance(reply, CommandRan):
            return read if on_cpu else None
        return max(reply.peak_memory_bytes or 0, read) if tree and on_cpu else reply.peak_memory_bytes

    def _fail(self, name: str, reason: str) -> None:
        self.fleet.close(name)
        self.waiting.discard(name)
        self.store.update(name, status=FAILED, reason=reason, log=self.store.log(name))
        self._progress.note(f"{name} failed: {reason}")
        if name == self._run.baseline:
            raise BackendLostError(f"the baseline {name} failed: {reason}; log: {self.store.directory.log(name)}")


def full_folders(*folders: Path) -> str:
    """Which of these folders have no room; many runtimes do not say that it was this that broke their build."""
    full = [str(folder) for folder in folders if folder.exists() and shutil.disk_usage(folder).free < NO_ROOM]
    return f"; there is no room in {' and '.join(full)}" if full else ""


def spread_out(cases: Sequence[Case], seed: str) -> list[Case]:
    """The cases so that those of any beginning have sizes spread like all of them, in an order drawn from `seed`.

    By ranks of a scrambled Halton sequence (Owen, "A randomized Halton algorithm in R", 2017, as SciPy has it).
    """
    rng = np.random.default_rng(list(seed.encode()))
    ranks = scipy.stats.qmc.Halton(d=1, rng=rng).random(len(cases))[:, 0].argsort().argsort()
    by_size = sorted(cases, key=lambda case: math.prod(case.shape))
    return [by_size[rank] for rank in ranks]


def _shuffled(names: Sequence[str], seed: str) -> list[str]:
    return random.Random(seed).sample(names, len(names))


def _place(sample: Sample) -> tuple[str, int]:
    return sample.phase, sample.round
