"""Control groups of both versions: made up in a folder, and real ones where this system lets us make them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.machine import cgroup, host, system_load

GIB = 2**30
V2 = "29 24 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "".join(
    f"3{i} 24 0:3{i} {{root}} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
    for i, name in enumerate(("cpu,cpuacct", "memory"))
)


def made_up(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A file system in which the process is in `groups`, with these `files`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(("cpu_max", "expected"), [("150000 100000", 1.5), ("max 100000", None), ("50000 100000", 0.5)])
def test_a_container_of_version_2(tmp_path: Path, cpu_max: str, expected: float | None) -> None:
    files = {"cpu.max": cpu_max, "memory.max": "max", "memory.high": "max"}
    root = made_up(tmp_path, "0::/\n", V2.format(root="/"), files)
    assert cgroup.cpu_quota(root) == expected
    assert cgroup.memory_limit(root) is cgroup.memory_available(root) is None


def test_the_tightest_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = {
        "cpu.max": "max 100000", "job/cpu.max": "200000 100000", "job/step/cpu.max": "400000 100000",
        "job/memory.max": str(8 * GIB), "job/memory.high": str(6 * GIB), "job/memory.current": str(4 * GIB),
        "job/memory.stat": f"anon 5\ninactive_file {GIB}\n", "job/step/memory.max": str(7 * GIB),
        "job/cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 1500000",
    }  # fmt: skip
    root = made_up(tmp_path, "0::/job/step\n", V2.format(root="/"), files)
    assert (cgroup.cpu_quota(root), cgroup.throttled_s(root)) == (2.0, 1.5)
    assert (cgroup.memory_limit(root), cgroup.memory_available(root)) == (6 * GIB, 3 * GIB)


def test_version_1_by_controller(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "300000", "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/docker/a/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 2000000000",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/docker/a/memory.limit_in_bytes": str(4 * GIB), "memory/docker/a/memory.usage_in_bytes": str(3 * GIB),
        "memory/docker/a/memory.stat": f"total_inactive_file {GIB}",
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }  # fmt: skip
    root = made_up(tmp_path, "5:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n0::/x\n", V1.format(root="/"), files)
    assert (cgroup.cpu_quota(root), cgroup.throttled_s(root)) == (3.0, 2.0)
    assert (cgroup.memory_limit(root), cgroup.memory_available(root)) == (4 * GIB, 2 * GIB)


@pytest.mark.parametrize("own", ["/docker/a", "/../..", "/elsewhere"])
def test_a_container_without_a_namespace_sees_its_own_group_alone(tmp_path: Path, own: str) -> None:
    root = made_up(tmp_path, f"0::{own}\n", V2.format(root="/docker/a"), {"cpu.max": "100000 50000"})
    assert cgroup.cpu_quota(root) == 2.0


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert cgroup.cpu_quota(tmp_path) is cgroup.memory_limit(tmp_path) is cgroup.throttled_s(tmp_path) is None
    assert host.memory(tmp_path)[1] == psutil.virtual_memory().total


@pytest.mark.parametrize(("cpu_max", "threads"), [("50000 100000", 1), ("150000 100000", 1), ("9900000 100000", None)])
def test_threads_and_memory_follow(tmp_path: Path, cpu_max: str, threads: int | None) -> None:
    files = {"cpu.max": cpu_max, "memory.max": str(GIB), "memory.current": str(GIB // 4)}
    root = made_up(tmp_path, "0::/\n", V2.format(root="/"), files)
    cores = host.physical_cores(host.allowed_cpus())
    assert host.physical_threads(root) == (threads or min(cores, 99))
    assert host.memory(root) == (GIB - GIB // 4, GIB)
    record = host.describe("cpu", root)
    assert record.memory_limit_bytes == GIB
    assert record.cpu_quota == (float(cpu_max.split()[0]) / 1e5 if threads and record.cores > 1 else None)
    text = "; ".join(host.limits_of(record))
    assert "the control group allows 1.0 GiB of the machine's" in text
    assert ("no pool should have more threads" in text) == (record.cpu_quota is not None)


@pytest.mark.parametrize(
    ("cpu_max", "recorded", "threads"),
    [("max 100000", 2, 2), ("max 100000", 1, 1), ("max 100000", 4, None), ("max 100000", None, None),
     ("150000 100000", 2, 1), ("50000 100000", 1, 1)],
)  # fmt: skip
def test_recorded_threads_are_taken_where_there_are_as_many_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_max: str, recorded: int | None, threads: int | None
) -> None:
    monkeypatch.setattr(host, "allowed_cpus", lambda: {0, 1})
    root = made_up(tmp_path, "0::/\n", V2.format(root="/"), {"cpu.max": cpu_max})
    assert host.threads_like(recorded, root) == (threads or host.physical_threads(root))


def test_hyper_threads_of_one_core_are_one_core(tmp_path: Path) -> None:
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert [host.physical_cores(cpus, tmp_path) for cpus in ({0, 1, 2, 3}, {0, 2}, {0, 1}, {3})] == [2, 1, 2, 1]


@pytest.fixture
def real_quota() -> Iterator[Path]:
    """A real group with a tenth of a CPU, of either version."""
    for mount in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu")):
        folder = mount / f"voxbench-test-{os.getpid()}"
        if not (mount / "cgroup.procs").exists():
            continue
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / "cpu.max").exists():
                (folder / "cpu.max").write_text("10000 100000")
            else:
                (folder / "cpu.cfs_quota_us").write_text("10000")
        except OSError:
            folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("this system lets nobody make a control group here")


def test_a_real_quota_is_seen_and_its_throttling_counted(real_quota: Path) -> None:
    ask = (
        "import sys, time; from bench.machine import cgroup, host; sys.stdin.readline(); begin = time.time()\n"
        "while time.time() < begin + 0.7: pass\n"
        "print(cgroup.cpu_quota(), host.physical_threads(), cgroup.throttled_s())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        (real_quota / "cgroup.procs").write_text(str(process.pid))
        quota, threads, throttled = process.communicate("\n")[0].split()
    assert (float(quota), int(threads)) == (0.1, 1)
    assert float(throttled) > 0.1


def test_throttling_is_counted_beside_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter((1.0, 1.6))
    monkeypatch.setattr(system_load, "throttled_s", lambda: next(seconds))
    before = system_load.Counters.now()
    time.sleep(0.02)
    after = system_load.Counters.now()
    load = system_load.between(before, after, 0.0)
    assert load.throttled == pytest.approx(0.6 / (after.clock - before.clock))
