"""All processes that one has started, and those that they started: what they take, and how they end.

On Linux a process can have what it started, and what that started, stay below it however they come loose
(`keep_orphans`); elsewhere those that leave their parents are lost to sight.
"""

import contextlib
import ctypes
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_SET_CHILD_SUBREAPER = 36  # prctl(2)
_SWEEPS, _PAUSE_S = 200, 0.01  # while they die; a process that waits for a disk takes its time


def keep_orphans() -> bool:
    """Have this process become the parent of all below it whose parent ends; False where the system knows no such."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def descendants(pid: int) -> list[psutil.Process]:
    """The processes below this one that live; those that have ended and were not waited for yet are left out."""
    living = []
    for number in _numbers_below(pid):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(number)
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def kill_descendants(pid: int) -> None:
    """Kill every process below this one, also those that are started meanwhile; nobody is waited for here."""
    for _ in range(_SWEEPS):
        living = descendants(pid)
        if not living:
            return
        for process in living:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_PAUSE_S)


def reap() -> None:
    """Take note of all children of this process that have ended, and of what they took."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def own_cpu_ns() -> int:
    """Processor time of everything that ever ran below this process, which must have waited for what has ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((ended.ru_utime + ended.ru_stime + sum(map(_cpu_s, descendants(os.getpid())))) * 1e9)


def resident_bytes(process: psutil.Process) -> int:
    """Its resident pages, also those that it shares with others."""
    return int(process.memory_info().rss)


def usage_below(
    process: psutil.Process, memory_of: Callable[[psutil.Process], int] = resident_bytes
) -> tuple[int, float]:
    """Bytes of all processes below this one, and the seconds of processor time that any has ever taken.

    The time of one that has ended is its own until it is waited for, and then that of who did. `memory_of` says what
    counts of each.
    """
    waited_for = process.cpu_times()
    memory, cpu = 0, waited_for.children_user + waited_for.children_system
    for number in _numbers_below(process.pid):
        with contextlib.suppress(psutil.Error):
            each = psutil.Process(number)
            with each.oneshot():
                cpu += _cpu_s(each)
                memory += memory_of(each)
    return memory, cpu


def _cpu_s(process: psutil.Process) -> float:
    """Of a process, and of what it has waited for."""
    with contextlib.suppress(psutil.Error):
        return float(sum(process.cpu_times()[:4]))
    return 0.0


def _numbers_below(pid: int) -> list[int]:
    """By the lists of children that most kernels keep: to ask every process of the machine for its parent takes
    milliseconds on a busy one, and it is done several times a second.
    """
    if not Path(f"/proc/{pid}/task/{pid}/children").exists():
        with contextlib.suppress(psutil.Error):
            return [process.pid for process in psutil.Process(pid).children(recursive=True)]
        return []
    numbers, waiting = list[int](), [pid]
    while waiting:
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    children = [int(number) for number in file.read_text().split()]
                    numbers += children
                    waiting += children
    return numbers
