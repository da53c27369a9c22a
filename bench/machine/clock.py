"""The clocks of every backend: of a case always the host's, of its stages on a GPU that of the GPU."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol


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

    def settle(self) -> None:
        """Wait until `stages_ns` holds all stages that have ended."""


class Event(Protocol):
    """A point in the work of a GPU, as `torch.cuda.Event` with ``enable_timing``."""

    def synchronize(self) -> None:
        """Wait until the stream has come to it."""
        ...

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds to a later one."""
        ...


class EventStopwatch(Stopwatch):
    """Waits for nothing between stages, so that a GPU never waits for the host where it need not.

    What is entered with ``device=True`` lasts from one event of the current stream to another. That holds all for which
    the stream waited in between, the host too; so stages follow one another as on the host, and a case is never shorter
    than their sum. Other stages are timed by the host's clock: nothing that was launched may still run beside them.
    """

    def __init__(self, record: Callable[[], Event]) -> None:
        """`record` puts an event behind what the current stream has to do."""
        super().__init__(lambda: None)
        self._record = record
        self._open: list[str] = []  # stages of the device that have begun, the innermost last
        self._ended: list[tuple[str, str | None, Event, Event]] = []  # name, that of the outer one, begin, end

    @contextmanager
    def stage(self, name: str, *, device: bool = False) -> Iterator[None]:
        if not device:
            with super().stage(name):
                yield
            return
        outer = self._open[-1] if self._open else None
        self._open.append(name)
        begin = self._record()
        yield
        end = self._record()
        self._open.pop()
        self._ended.append((name, outer, begin, end))

    def settle(self) -> None:
        for name, outer, begin, end in self._ended:
            end.synchronize()
            taken = round(begin.elapsed_time(end) * 1e6)
            self.stages_ns[name] = self.stages_ns.get(name, 0) + taken
            if outer is not None:
                self.stages_ns[outer] = self.stages_ns.get(outer, 0) - taken
        self._ended.clear()
        # An event is good to half a microsecond, and what is left of an outer stage may be less than its inner ones'.
        self.stages_ns = {name: max(ns, 0) for name, ns in self.stages_ns.items()}


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
