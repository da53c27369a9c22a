"""The one clock of every backend: synchronise, read a monotonic counter, work, synchronise, read again."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Stopwatch:
    """Nanoseconds spent in named stages of a case.

    `sync` waits for the device and is called on both sides of every stage that is entered with ``device=True``,
    so that work launched in one stage is not billed to the next. A stage within another is taken off the outer one.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self.stages_ns: dict[str, int] = {}
        self._sync = sync
        self._within = 0  # nanoseconds of the stages within the present one

    @contextmanager
    def stage(self, name: str, *, device: bool = False) -> Iterator[None]:
        if device:
            self._sync()
        outer, self._within = self._within, 0
        start = time.perf_counter_ns()
        yield
        if device:
            self._sync()
        taken = time.perf_counter_ns() - start
        self.stages_ns[name] = self.stages_ns.get(name, 0) + taken - self._within
        self._within = outer + taken


class DeviceClock:
    """Sums spans between device events: a cross-check of the host clock, never the headline."""

    def __init__(self, device: "torch.device") -> None:
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] | None = [] if device.type == "cuda" else None

    @contextmanager
    def span(self) -> Iterator[None]:
        if self._spans is None:
            yield
            return
        import torch

        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        yield
        end.record()
        self._spans.append((begin, end))

    def elapsed_ns(self) -> int | None:
        """Nanoseconds within all spans, after a synchronisation; None on a CPU."""
        if self._spans is None:
            return None
        milliseconds: float = sum(begin.elapsed_time(end) for begin, end in self._spans)
        return round(milliseconds * 1e6)


def clock_fault(case_ns: int, stages_ns: Mapping[str, int], waited_ns: int) -> str | None:
    """What is wrong with the times of a case for which its caller waited `waited_ns`; None where nothing is.

    Code of the network's own may replace the clock of its process, and a figure from such a clock says nothing.
    """
    if 0 < case_ns <= waited_ns and min(stages_ns.values(), default=0) >= 0 and sum(stages_ns.values()) <= case_ns:
        return None
    stages = ", ".join(f"{stage} {ns}" for stage, ns in stages_ns.items())
    return (
        f"the clock of its process is wrong: it counted {case_ns} ns for the case ({stages}), and {waited_ns} ns went "
        "by; look for code that replaces time.perf_counter_ns"
    )


def processor_ns() -> int:
    """Processor time of this process so far, all its threads, and of the processes that it has started and waited for.

    It takes microseconds.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((ended.ru_utime + ended.ru_stime) * 1e9)


def peak_resident_bytes() -> int:
    """Largest resident set this process ever had.

    Linux hands the ``ru_maxrss`` of a parent down to the program that its child becomes, so a worker of a large harness
    would be billed for the harness; ``VmHWM`` begins anew with the program (proc(5), getrusage(2)).
    """
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
