"""Usage of real processes, sums with known answers, and RAPL counters in files."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from bench.machine import system_load
from bench.machine.usage import Reading, UsageMeter, packages, summed
from reports.records.record import Usage

BUSY = "import time\nwhile True: time.perf_counter()"


@pytest.fixture
def child():
    """Start a program and end it afterwards."""
    started = []

    def start(source: str) -> int:
        process = subprocess.Popen([sys.executable, "-c", source + "\n"], stdout=subprocess.PIPE)
        started.append(process)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


TREE = """
import os, subprocess, sys, time
block = bytearray(100 * 2**20)
burn = "import time; b = bytearray(60 * 2**20); end = time.process_time() + 0.3\\nwhile time.process_time() < end: pass"
subprocess.run([sys.executable, "-c", burn])
child = subprocess.Popen([sys.executable, "-c", burn + "\\nprint(flush=True)\\ntime.sleep(600)"])
if os.fork() == 0: time.sleep(600)
time.sleep(600)
"""


def test_what_a_process_starts_counts_with_it(child):
    """A child that has ended, one that lives, and a fork whose pages are its parent's."""
    process = psutil.Process(child(TREE))
    while len(process.children()) < 2 or sum(sum(each.cpu_times()[:2]) for each in process.children()) < 0.3:
        time.sleep(0.02)
    meter, alone = UsageMeter(process.pid, tree=True), UsageMeter(process.pid)
    own = process.memory_info().rss
    assert alone.peak_memory_bytes == own
    assert 60 * 2**20 < meter.peak_memory_bytes - own < 100 * 2**20, "the fork is not counted twice"
    assert meter._readings[0].cpu_s - alone._readings[0].cpu_s > 0.5
    for each in process.children():
        each.kill()


def test_sums_with_known_answers():
    megabyte = 2**20
    readings = [Reading(0.0, 100 * megabyte, 5.0), Reading(0.2, 300 * megabyte, 5.1), Reading(0.3, 200 * megabyte, 5.3)]
    result = summed(readings, 7.0)
    assert result.memory_byte_s == pytest.approx((0.2 * 200 + 0.1 * 250) * megabyte)
    assert result.flare_memory_mb_s == pytest.approx((300 + 200) * 0.1), "0.1 s each, though one took 0.2"
    assert result.flare_cpu_pct_s == pytest.approx((50 + 200) * 0.1)
    assert result.cpu_energy_j == 7.0
    assert summed(readings[:1], None) == Usage()


def test_the_memory_of_a_real_process_is_integrated(child):
    size = 200 * 2**20
    pid = child(f"block = b'x' * {size}; import time; time.sleep(600)")
    while psutil.Process(pid).memory_info().rss < size:
        time.sleep(0.02)
    begin = time.perf_counter()
    meter = UsageMeter(pid)
    for _ in range(5):
        time.sleep(0.1)
        meter.tick()
    result, wall = meter.usage(), time.perf_counter() - begin
    resident = psutil.Process(pid).memory_info().rss
    assert result.memory_byte_s <= resident * wall * 1.01
    assert result.memory_byte_s >= resident * 0.5 * 0.99
    assert result.flare_memory_mb_s == pytest.approx(resident / 2**20 * 0.6, rel=0.01), "six readings"
    assert result.flare_cpu_pct_s < 0.6 * 50, "it slept"


def test_a_process_that_is_gone_has_no_figures(child):
    pid = child("import time; time.sleep(600)")
    meter = UsageMeter(pid)
    psutil.Process(pid).kill()
    psutil.wait_procs([psutil.Process(pid)], timeout=10)
    assert meter.usage().cpu_energy_j is None
    assert UsageMeter(2**22 - 1).usage() == Usage(cpu_energy_j=None)


def rapl(root, number, name, energy, full):
    folder = root / f"intel-rapl:{number}"
    folder.mkdir()
    for file, text in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", full)):
        (folder / file).write_text(f"{text}\n")
    return folder / "energy_uj"


def test_energy_is_that_of_the_packages_also_over_the_counters_end(tmp_path):
    first = rapl(tmp_path, 0, "package-0", 1_000_000, 10_000_000)
    second = rapl(tmp_path, 1, "package-1", 9_000_000, 10_000_000)
    for number, name in (("0:0", "core"), (2, "psys")):
        rapl(tmp_path, number, name, 5, 10)
    assert [package.counter for package in packages(tmp_path)] == [first, second]
    meter = UsageMeter(os.getpid(), tmp_path)
    first.write_text("3500000\n")
    second.write_text("500000\n")
    assert meter.usage().cpu_energy_j == pytest.approx(2.5 + 1.5)
    second.write_text("not told\n")
    assert meter.usage().cpu_energy_j is None, "half of the machine is not the machine"
    assert UsageMeter(os.getpid(), tmp_path / "none").usage().cpu_energy_j is None


def test_foreign_load_is_seen_and_the_workers_is_not(child):
    """Of two busy processes one is taken for the worker; what both use is their own counters' matter."""
    ours, theirs = (psutil.Process(child(BUSY)) for _ in range(2))
    time.sleep(0.5)
    before, start = system_load.Counters.now(), [sum(p.cpu_times()[:2]) for p in (ours, theirs)]
    time.sleep(2)
    after = system_load.Counters.now()
    mine, foreign = (sum(p.cpu_times()[:2]) - s for p, s in zip((ours, theirs), start, strict=True))
    wall = after.clock - before.clock
    result = system_load.between(before, after, mine)
    assert foreign > 0
    assert result.others >= foreign / wall - 0.1
    alone = system_load.between(before, after, 0.0)
    assert alone.others - result.others == pytest.approx(mine / wall, abs=1e-9)


def test_steal_and_own_time_with_known_answers(monkeypatch):
    monkeypatch.setattr(system_load, "frequency_mhz", lambda: 2000.0)
    before, after = system_load.Counters(10, 100, 5, 1), system_load.Counters(12, 107, 6, 2)
    assert system_load.between(before, after, 4) == system_load.SystemLoad(others=1, stolen=0.5, mhz=2000)
    assert system_load.between(before, after, 9).others == 0, "rounded counters make no negative load"
    assert system_load.between(system_load.Counters(10, 100, None, 1), after, 4).stolen is None


@pytest.mark.parametrize(
    "error", [AttributeError, FileNotFoundError, NotImplementedError, PermissionError, RuntimeError]
)
def test_a_frequency_that_the_system_does_not_tell_is_none(error, monkeypatch):
    def cpu_freq():
        raise error

    monkeypatch.setattr(system_load.psutil, "cpu_freq", cpu_freq)
    assert system_load.frequency_mhz() is None
    monkeypatch.setattr(system_load.psutil, "cpu_freq", lambda: SimpleNamespace(current=2450.0))
    assert system_load.frequency_mhz() == 2450.0
    for unknown in (None, SimpleNamespace(current=0.0)):
        monkeypatch.setattr(system_load.psutil, "cpu_freq", lambda unknown=unknown: unknown)
        assert system_load.frequency_mhz() is None
