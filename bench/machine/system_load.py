"""What else the machine does during a case, from the counters of its system; read outside the timed interval."""

import time
from dataclasses import dataclass

import psutil

from bench.machine.cgroup import throttled_s
from reports.records.record import SystemLoad

_IDLE = ("idle", "iowait", "steal", "guest", "guest_nice")  # guests are in `user` already


@dataclass(frozen=True)
class Counters:
    """Seconds since some fixed moment: on the clock, and of processor time summed over the cores.

    Attributes:
        busy: all processes together; the system counts in steps of 10 ms for each core.
        stolen: given to other machines by the hypervisor; None where the system does not say.
        own: this process, all threads.
        throttled: for which cores had to wait for the CPU quota of the control group; None without a quota.
    """

    clock: float
    busy: float
    stolen: float | None
    own: float
    throttled: float | None = None

    @classmethod
    def now(cls) -> "Counters":
        times = psutil.cpu_times()._asdict()
        busy = sum(seconds for kind, seconds in times.items() if kind not in _IDLE)
        return cls(time.perf_counter(), busy, times.get("steal"), time.process_time(), throttled_s())


def between(before: Counters, after: Counters, worker_s: float) -> SystemLoad:
    """What others used from `before` to `after`, when the worker used `worker_s` of processor time."""
    wall = after.clock - before.clock
    if wall <= 0:
        return SystemLoad(mhz=frequency_mhz())
    others = (after.busy - before.busy) - (after.own - before.own) - worker_s
    stolen = _mean(before.stolen, after.stolen, wall)
    return SystemLoad(max(0.0, others / wall), stolen, frequency_mhz(), _mean(before.throttled, after.throttled, wall))


def _mean(before: float | None, after: float | None, wall: float) -> float | None:
    """None also where the counter went back, as a migration to another host lets it."""
    return None if before is None or after is None or after < before else (after - before) / wall


def frequency_mhz() -> float | None:
    """Mean over the cores, now; None where the system does not say."""
    try:
        frequency = psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError, RuntimeError):  # no such figure, or not for us
        return None
    return frequency.current if frequency and frequency.current else None
