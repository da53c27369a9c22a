"""The control groups of this process: how much processor time and memory they allow, as containers set it.

Both versions are read (cgroups(7)). A group's bounds hold for all groups within it, so of the process's own and all
above it the tightest counts. Sources: Linux, Documentation/admin-guide/cgroup-v2.rst; cgroup-v1/memory.rst;
scheduler/sched-bwc.rst.
"""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

ROOT = Path("/")  # of the file system; tests make up another

T = TypeVar("T")


def cpu_quota(root: Path = ROOT) -> float | None:
    """Processor time that the process may have, in CPUs; None without a quota."""
    return min(_known(_quota, "cpu", root), default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes of memory that the process may have; None without a limit.

    The high limit of version 2 counts too: beyond it the system takes memory back and slows the process down.
    """
    return min(_known(_limit, "memory", root), default=None)


def memory_available(root: Path = ROOT) -> int | None:
    """Bytes that are left below the limits; cached files, which the system would drop, count as free. None without."""
    return min(_known(_left, "memory", root), default=None)


def throttled_s(root: Path = ROOT) -> float | None:
    """Seconds so far for which CPUs had to wait for the quota, summed over them; None without a quota."""
    return sum(known) if (known := list(_known(_throttled, "cpu", root))) else None


def _known(read: Callable[[Path], T | None], controller: str, root: Path) -> Iterator[T]:
    return (value for folder in _folders(controller, root) if (value := read(folder)) is not None)


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the process's groups that bound `controller`, from its own upwards, as far as they can be seen."""
    paths = {}  # by controller; that of version 2 has no name
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, own = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(","), PurePosixPath(own)))
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        (shown, mounted), (kind, _, options) = before.split()[3:5], after.split()[:3]
        if kind not in ("cgroup", "cgroup2") or (kind == "cgroup" and controller not in options.split(",")):
            continue
        path = paths.get(controller if kind == "cgroup" else "")
        top = root / mounted.lstrip("/")
        # In a container the own group may be what is mounted, or lie outside of it, as ".." in a namespace does.
        inside = path is not None and path.is_relative_to(shown) and ".." not in path.parts
        folder = top / path.relative_to(shown) if inside and path else top
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top))


def _quota(folder: Path) -> float | None:
    limit, period = [*_text(folder / "cpu.max").split(), "", ""][:2]
    limit, period = limit or _text(folder / "cpu.cfs_quota_us"), period or _text(folder / "cpu.cfs_period_us")
    return int(limit) / int(period) if limit.isdecimal() and period.isdecimal() and int(period) else None


def _limit(folder: Path) -> int | None:
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    # Version 1 has no word for "no limit", but the largest number of bytes that it can count in whole pages.
    known = [int(text) for name in names if (text := _text(folder / name)).isdecimal() and int(text) < 2**62]
    return min(known, default=None)


def _left(folder: Path) -> int | None:
    limit = _limit(folder)
    used = _text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes")
    if limit is None or not used.isdecimal():
        return limit
    counters = _counters(folder / "memory.stat")
    files = counters.get("total_inactive_file", counters.get("inactive_file", 0))
    return max(0, limit - max(0, int(used) - files))


def _throttled(folder: Path) -> float | None:
    if _quota(folder) is None:
        return None
    counters = _counters(folder / "cpu.stat")
    by_version = (("throttled_usec", 1e6), ("throttled_time", 1e9))
    return next((counters[name] / unit for name, unit in by_version if name in counters), None)


def _counters(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
