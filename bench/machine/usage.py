"""What a worker takes during a case beside time: memory and processor, read every 0.1 s, and energy.

Of a tree of processes each page is to count once: what processes share is the first one's, and so is all of one that
was forked and still runs its parent's program, as nearly all of its pages are its parent's.
"""

import contextlib
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from bench.machine.process_tree import usage_below
from reports.records.record import Usage

INTERVAL_S = 0.1  # FLARE's
_MEGABYTE = 2**20  # as FLARE's figures, which nvidia-smi gives
_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Reading:
    """A worker at one moment: seconds of a monotonic clock, resident bytes, seconds of processor time so far."""

    clock_s: float
    memory_bytes: int
    cpu_s: float


class UsageMeter:
    """Follows one process over one case: `tick` it every `INTERVAL_S`, then ask for `usage`.

    With `tree` all that it has started counts too. Looking for these takes milliseconds, so it is asked for only where
    there are any. With `below` that alone counts, and not the process itself.
    """

    def __init__(self, pid: int, powercap: Path = _POWERCAP, *, tree: bool = False, below: bool = False) -> None:
        self._readings: list[Reading] = []
        self._tree, self._below = tree, below
        self._programs: dict[int, list[str]] = {}
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(pid)
        self._packages = packages(powercap)
        self._energy = [package.read() for package in self._packages]
        self.tick()

    def tick(self) -> None:
        """Read once; a process that is gone or hidden gives nothing."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.Error):
            if self._below:
                self._readings.append(Reading(time.perf_counter(), *usage_below(self._process)))
                return
            memory, cpu = self._process.memory_info().rss, self._process.cpu_times()
            memory_bytes, cpu_s = usage_below(self._process, self._pages_of_its_own) if self._tree else (0, 0.0)
            self._readings.append(Reading(time.perf_counter(), memory + memory_bytes, cpu.user + cpu.system + cpu_s))

    @property
    def peak_memory_bytes(self) -> int:
        """The most that was resident at a reading."""
        return max((reading.memory_bytes for reading in self._readings), default=0)

    def _pages_of_its_own(self, process: psutil.Process) -> int:
        """Bytes; none of one that still runs its parent's program."""
        if self._program(process.pid) == self._program(process.ppid()):
            return 0
        held = process.memory_info()
        return int(held.rss - getattr(held, "shared", 0))

    def _program(self, pid: int) -> list[str]:
        if pid not in self._programs:
            self._programs[pid] = psutil.Process(pid).cmdline()
        return self._programs[pid]

    def usage(self) -> Usage:
        """Read a last time, and sum up."""
        spent = [p.spent(start, p.read()) for p, start in zip(self._packages, self._energy, strict=True)]
        known = [joules for joules in spent if joules is not None]
        self.tick()
        return summed(self._readings, sum(known) if spent and len(known) == len(spent) else None)


def summed(readings: list[Reading], energy_j: float | None) -> Usage:
    """The figures of a case from at least two readings, the first of them before it began.

    FLARE's sum (Ma et al., FLARE 2022: efficiency as the area under the curve) takes every reading after the first for
    0.1 s, and the use of the processor since the reading before, in per cent of one core.
    """
    if len(readings) < 2:
        return Usage(cpu_energy_j=energy_j)
    memory = flare_memory = flare_cpu = 0.0
    for before, now in pairwise(readings):
        wall = now.clock_s - before.clock_s
        memory += wall * (before.memory_bytes + now.memory_bytes) / 2
        flare_memory += now.memory_bytes / _MEGABYTE * INTERVAL_S
        flare_cpu += 100 * (now.cpu_s - before.cpu_s) / wall * INTERVAL_S if wall > 0 else 0
    return Usage(memory, flare_memory, flare_cpu, energy_j)


@dataclass(frozen=True)
class Package:
    """The energy counter of a processor package (RAPL), which starts again from 0 after `range_uj`."""

    counter: Path
    range_uj: int

    def read(self) -> int | None:
        """Microjoules; None where they cannot be read, as most systems allow to root alone."""
        return _number(self.counter)

    def spent(self, before: int | None, after: int | None) -> float | None:
        """Joules between two readings that lie less than one turn of the counter apart."""
        if before is None or after is None:
            return None
        return (after - before + (self.range_uj if after < before else 0)) / 1e6


def packages(powercap: Path = _POWERCAP) -> tuple[Package, ...]:
    """The packages whose energy this process can read; their parts and the whole platform are left out."""
    readable = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        with contextlib.suppress(OSError):
            name, full = (folder / "name").read_text().strip(), _number(folder / "max_energy_range_uj")
            if name.startswith("package") and full is not None and _number(folder / "energy_uj") is not None:
                readable.append(Package(folder / "energy_uj", full))
    return tuple(readable)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
