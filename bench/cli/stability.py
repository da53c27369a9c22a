"""`bench doctor --stability`: how steady the machine is, by a fixed piece of work and what else goes on meanwhile."""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.machine import host
from bench.machine.system_load import Counters, between, frequency_mhz
from bench.worker.process import CallError, WorkerProcess
from bench.worker.questions import find_device, read_gpu, repeat_work, try_import
from reports.records.record import GpuState

SECONDS = 10.0  # half of them on one thread, half on all
QUIET, USABLE, NOISY = "quiet", "usable", "noisy"
_TIMEOUT_S = 120.0
_GOVERNORS = Path("/sys/devices/system/cpu")

# Largest figure that is quiet, and that is usable. Of the times: over n pairs of cases that take equally long the
# half-width of the 95 % bound of the time reduction is about 1.645 x sqrt(2) x spread / sqrt(n). One round of 36 cases
# thus gives 2 points at 5 %, and one of 12 gives 1 point at 1.5 %. Of the load and of steal: shares of the machine that
# are taken from a backend that uses all cores. Of the frequency: it moves both variants of a pair, so it may be more.
_SPREAD = (0.015, 0.05)
_SHARE = (0.01, 0.05)
_FREQUENCY = (0.05, 0.15)


@dataclass(frozen=True)
class Stability:
    """What was measured; None is what the system does not say.

    Attributes:
        one_thread, all_threads: coefficient of variation of the times of the work on one thread and on `threads`.
        others, stolen: share of the machine's cores that other processes used, and that the hypervisor gave away.
        frequency: largest less smallest frequency of the processor over the largest.
        governors: that the system's frequency scaling has, each once; empty where it has none.
        gpu: the GPU's state while nothing ran on it; None without one.
    """

    threads: int
    one_thread: float
    all_threads: float
    others: float | None
    stolen: float | None
    frequency: float | None
    governors: tuple[str, ...] = ()
    gpu: GpuState | None = None


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, its rating, the figure, and what to do where it is not quiet."""

    what: str
    rating: str
    figure: str
    fix: str | None = None


def measure(device: str, seconds: float = SECONDS) -> Stability:
    """Look at the machine, and at the GPU where `device` is one.

    Raises:
        WorkerError: the process that did the work did not come back.
    """
    threads = host.physical_threads()
    megahertz: list[float] = []

    def read_frequency() -> None:
        now = frequency_mhz()
        if now is not None:
            megahertz.append(now)

    spread, load, stolen = {}, [], []
    for count in (1, threads):
        with WorkerProcess(count) as worker:
            worker.call(try_import, "numpy", timeout_s=_TIMEOUT_S)  # its start is no foreign load
            before = Counters.now()
            reply = worker.call(repeat_work, seconds / 2, timeout_s=_TIMEOUT_S + seconds, meanwhile=read_frequency)
        load_now = between(before, Counters.now(), reply.cpu_ns * 1e-9)
        load.append(load_now.others)
        stolen.append(load_now.stolen)
        spread[count] = statistics.stdev(reply.times_ns) / statistics.mean(reply.times_ns)
    cores = len(host.allowed_cpus())
    return Stability(
        threads, spread[1], spread[threads], _share(load, cores), _share(stolen, cores),
        (max(megahertz) - min(megahertz)) / max(megahertz) if megahertz else None, governors(), _gpu(device),
    )  # fmt: skip


def governors(folder: Path = _GOVERNORS) -> tuple[str, ...]:
    """The frequency governors of the cores, each once."""
    names = set()
    for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            names.add(path.read_text().strip())
        except OSError:  # a core that is off
            continue
    return tuple(sorted(names))


def findings(measured: Stability) -> list[Finding]:
    """One line for each thing that is known."""
    close, spare = "close other programs, or pin them elsewhere with taskset", "use a machine of your own"
    lines = [
        _rated(
            "work on one thread",
            measured.one_thread,
            _SPREAD,
            "varies by",
            "see the lines below, or take more --rounds",
        ),
        _rated(
            f"work on {measured.threads}",
            measured.all_threads,
            _SPREAD,
            "varies by",
            "run with fewer --threads, or more --rounds",
        ),
        _rated("other processes", measured.others, _SHARE, "use", close, " of the machine"),
        _rated("hypervisor", measured.stolen, _SHARE, "gave others", spare, " of the machine"),
        _rated(
            "frequency", measured.frequency, _FREQUENCY, "moves by", "switch turbo off, or let the machine cool down"
        ),
    ]
    if measured.governors:
        names, steady = ", ".join(measured.governors), measured.governors == ("performance",)
        fix = None if steady else "cpupower frequency-set -g performance (as root)"
        lines.append(Finding("governor", QUIET if steady else USABLE, f"is {names}", fix))
    return [line for line in lines if line is not None] + _of_gpu(measured.gpu)


def rating(lines: list[Finding]) -> str:
    """Of the whole machine: its worst line."""
    return max((line.rating for line in lines), key=(QUIET, USABLE, NOISY).index)


def text(measured: Stability) -> str:
    """For the terminal."""
    rows = findings(measured)
    width = max(len(row.what) for row in rows)
    lines = [f"this machine is {rating(rows)}"]
    for row in rows:
        lines.append(f"{row.what:<{width}}  {row.rating:<6}  {row.figure}")
        if row.fix:
            lines.append(f"{'':<{width}}  -> {row.fix}")
    return "\n".join(lines)


def document(measured: Stability) -> dict[str, Any]:
    """For JSON."""
    rows = findings(measured)
    return {"schema": 1, "rating": rating(rows), **asdict(measured), "findings": [asdict(row) for row in rows]}


def _rated(
    what: str, value: float | None, bounds: tuple[float, float], verb: str, fix: str, of: str = ""
) -> Finding | None:
    if value is None:
        return None
    rated = QUIET if value <= bounds[0] else USABLE if value <= bounds[1] else NOISY
    return Finding(what, rated, f"{verb} {100 * value:.1f} %{of}", None if rated == QUIET else fix)


def _of_gpu(gpu: GpuState | None) -> list[Finding]:
    if gpu is None:
        return []
    known = ((gpu.sm_mhz, "MHz"), (gpu.temperature_c, "C"), (gpu.power_w, "W"))
    state = ", ".join(f"{value:.0f} {unit}" for value, unit in known if value is not None) or "says nothing"
    others = (gpu.processes or 1) - 1  # beside the one that looked
    if others:
        what = f"{others} other {'process computes' if others == 1 else 'processes compute'} on it; {state}"
        return [Finding("GPU", NOISY, what, "end them (nvidia-smi)")]
    if gpu.throttled_by:
        why = ", ".join(gpu.throttled_by)
        return [
            Finding("GPU", USABLE, f"throttled by {why}; {state}", "let it cool down, or lock it (nvidia-smi -lgc)")
        ]
    return [Finding("GPU", QUIET, state)]


def _gpu(device: str) -> GpuState | None:
    if device == "cpu":
        return None
    try:
        with WorkerProcess(1) as worker:
            choice = worker.call(find_device, device, timeout_s=_TIMEOUT_S)
        if choice.absent is not None:
            return None
        with WorkerProcess(1) as worker:  # one that has not yet opened the device
            return worker.call(read_gpu, choice.device, timeout_s=_TIMEOUT_S)
    except CallError:
        return None


def _share(cores_used: list[float | None], cores: int) -> float | None:
    known = [used for used in cores_used if used is not None]
    return max(known) / cores if known else None
