"""One backend in MLPerf's scenarios: latency of cases one by one, throughput of all, and cold starts.

``single-stream``: one case at a time, from its file to its mask on disk, in a process that is warm. ``offline``: all
cases in one go, read ahead and written behind. ``cold``: a new process for each case, from its start to the mask on
disk, as FLARE times it; what engines keep on disk between processes is kept, and the files are in the page cache.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import engines
from bench.choices import SCENARIOS
from bench.data.formats import mask_ending
from bench.data.volume import MaskValues, read_mask
from bench.errors import BackendLostError, InputError
from bench.machine.clock import clock_fault
from bench.plan.cache import cache_folder
from bench.plan.plan import Plan, make_plan
from bench.plan.request import Request
from bench.plan.variants.variants import refuse_no_single
from bench.progress import Progress
from bench.worker.messages import Broke, Open, Opened, Predict, PredictAll, Predicted, PredictedAll
from bench.worker.process import WorkerLostError, WorkerProcess
from engines.base import Availability
from reports.records.record import Case

SINGLE_STREAM, OFFLINE, COLD = SCENARIOS
PERCENTILES = (50, 90, 99)  # MLPerf's single-stream is judged by its 90th
_INPUT = ("InputError: ", "StorageError: ")  # how a worker names one


@dataclass(frozen=True)
class Timed:
    """A scenario that was run.

    Attributes:
        latencies_s: of the cases, in their order; in `offline` from the start of a case's reading to its mask on disk,
            waits included.
        wall_s: from the first case's start to the last mask on disk.
        forward_s: of `wall_s`, what the forward ran.
        peak_memory_bytes: of the process, or the largest of the processes; None where that is not known.
    """

    latencies_s: tuple[float, ...]
    wall_s: float
    forward_s: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Scenarios:
    """What was measured, by scenario; `masks_equal` says whether all wrote the same labels, None where only one ran.

    `read_ahead` is None where none were read ahead.
    """

    backend: str
    device: str
    threads: int
    controlled_settings: Mapping[str, str]
    cases: tuple[str, ...]
    read_ahead: int | None
    timed: dict[str, Timed]
    masks_equal: bool | None


def measure(
    request: Request, backend: str | None, wanted: Sequence[str], read_ahead: int, masks: Path, progress: Progress
) -> Scenarios:
    """Run `backend`, the baseline where it is None, in the `wanted` scenarios; masks go to ``masks/SCENARIO``.

    Raises:
        InputError and its like: something cannot be used, a case that breaks in between among them.
        BackendLostError: the backend failed.
    """
    plan = _plan(request, backend, progress)
    opening = plan.opens[0 if backend is None else -1]
    assert isinstance(opening, Open), "own commands are no backends"
    for scenario in wanted:
        (masks / scenario).mkdir(parents=True)
    timed: dict[str, Timed] = {}
    if set(wanted) - {COLD}:
        with _worker(opening, request.timeout_s) as ask:
            ask(opening, Opened)
            first = plan.record.cases[0]
            ask(Predict(_images(first), masks / f"warm{mask_ending(first.image)}"), Predicted)
            if SINGLE_STREAM in wanted:
                timed[SINGLE_STREAM] = _single_stream(ask, _paths(plan, masks / SINGLE_STREAM), progress)
            if OFFLINE in wanted:
                progress.start(OFFLINE, 1)
                timed[OFFLINE] = _offline(ask, _paths(plan, masks / OFFLINE), read_ahead)
    if COLD in wanted:
        cold = replace(opening, cold=True)
        timed[COLD] = _cold(cold, _paths(plan, masks / COLD), request.timeout_s, progress)
    values = MaskValues.of(plan.record.task)
    written = [[labels_sha256(mask, values) for _, mask in _paths(plan, masks / scenario)] for scenario in timed]
    return Scenarios(
        opening.name, opening.target.device, opening.target.threads, plan.record.controlled_settings,
        tuple(case.name for case in plan.record.cases), read_ahead if OFFLINE in timed else None, timed,
        None if len(written) < 2 else all(masks == written[0] for masks in written),
    )  # fmt: skip


def labels_sha256(mask: Path, values: MaskValues) -> str:
    """Hash what a mask holds and not its file, since equal labels may be packed into another stream."""
    return hashlib.sha256(read_mask(mask, None, values).tobytes()).hexdigest()


def percentile(latencies: Sequence[float], percent: float) -> float:
    """As MLPerf's LoadGen takes it: the sorted latency at the index ``n x percent / 100``, rounded down."""
    ordered = sorted(latencies)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


_Ask = Callable[[Any, type], Any]
_Paths = tuple[tuple[tuple[Path, ...], Path], ...]


def _plan(request: Request, backend: str | None, progress: Progress) -> Plan:
    if backend is not None:
        refuse_no_single(backend, "a scenario", "which has no scenarios")
    return make_plan(replace(request, backends=backend or engines.BASELINE), "scenario", "", progress)


def _paths(plan: Plan, folder: Path) -> _Paths:
    return tuple((_images(case), folder / f"{case.name}{mask_ending(case.image)}") for case in plan.record.cases)


def _images(case: Case) -> tuple[Path, ...]:
    return tuple(map(Path, case.images))


def _single_stream(ask: _Ask, cases: _Paths, progress: Progress) -> Timed:
    progress.start(SINGLE_STREAM, len(cases))
    timings, start = [], time.perf_counter()
    for images, mask in cases:
        reply = ask(Predict(images, mask), Predicted)
        timings.append(reply.timing)
        progress.advance(images[0].name)
    wall = time.perf_counter() - start
    latencies = tuple(timing.case_ns * 1e-9 for timing in timings)
    return Timed(
        latencies, wall, sum(timing.stages_ns["forward"] for timing in timings) * 1e-9, reply.peak_memory_bytes
    )


def _offline(ask: _Ask, cases: _Paths, read_ahead: int) -> Timed:
    reply = ask(PredictAll(cases, read_ahead), PredictedAll)
    streamed = reply.streamed
    latencies = tuple(timing.case_ns * 1e-9 for timing in streamed.timings)
    wall = streamed.wall_ns * 1e-9
    return Timed(latencies, wall, streamed.forward_share * wall, reply.peak_memory_bytes)


def _cold(opening: Open, cases: _Paths, timeout_s: float, progress: Progress) -> Timed:
    progress.start(COLD, len(cases))
    latencies, forward_s, peak = [], 0.0, 0
    for images, mask in cases:
        start = time.perf_counter()
        with _worker(opening, timeout_s) as ask:
            ask(opening, Opened)
            reply = ask(Predict(images, mask), Predicted)
            latencies.append(time.perf_counter() - start)
        forward_s += reply.timing.stages_ns["forward"] * 1e-9
        peak = max(peak, reply.peak_memory_bytes or 0)
        progress.advance(images[0].name)
    return Timed(tuple(latencies), sum(latencies), forward_s, peak or None)


@contextmanager
def _worker(opening: Open, timeout_s: float) -> Iterator[_Ask]:
    """A process for this backend; what it gives asks it, and makes an error of every reply but the expected one."""
    log = cache_folder() / f"scenario-{opening.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    name = opening.name

    def ask(request: Any, expected: type) -> Any:
        cases = len(request.cases) if isinstance(request, PredictAll) else 1
        begin = time.perf_counter_ns()
        try:
            reply = worker.ask(request, timeout_s * cases)
        except WorkerLostError as lost:
            raise BackendLostError(f"{name} failed: {lost}; log: {log}") from None
        if isinstance(reply, Broke) and reply.reason.startswith(_INPUT):
            raise InputError(reply.reason.partition(": ")[2])
        if isinstance(reply, Broke):
            raise BackendLostError(f"{name} failed: {reply.reason}; log: {log}")
        if isinstance(reply, Availability):
            raise InputError(f"--backend {name}: {reply.reason}" + (f"; {reply.fix}" if reply.fix else ""))
        assert isinstance(reply, expected), reply
        for wrong in _clock_faults(reply, time.perf_counter_ns() - begin):
            raise BackendLostError(f"{name} failed: {wrong}; log: {log}")
        return reply

    with WorkerProcess(opening.target.threads, log) as worker:
        yield ask


def _clock_faults(reply: Any, waited_ns: int) -> Iterator[str]:
    timings = reply.streamed.timings if isinstance(reply, PredictedAll) else ()
    for timing in (reply.timing,) if isinstance(reply, Predicted) else timings:
        wrong = clock_fault(timing.case_ns, timing.stages_ns, waited_ns)
        if wrong is not None:
            yield wrong
