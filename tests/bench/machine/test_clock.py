"""The peak of real processes, times that cannot be, and stages by events of a device that is made up."""

import subprocess
import sys

import pytest

from bench.machine.clock import EventStopwatch, clock_fault

MEGABYTE = 2**20
TELL = "from bench.machine.clock import peak_resident_bytes; print(peak_resident_bytes())"


def _reported(source: str) -> int:
    return int(subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout)


def test_the_peak_counts_what_was_freed():
    held = 300 * MEGABYTE
    assert held < _reported(f"block = b'x' * {held}; del block; {TELL}") < held + 100 * MEGABYTE


def test_the_peak_is_not_that_of_the_process_which_started_it():
    large = f"block = b'x' * {300 * MEGABYTE}; import subprocess, sys"
    assert _reported(f'{large}; subprocess.run([sys.executable, "-c", "{TELL}"])') < 100 * MEGABYTE


@pytest.mark.parametrize(
    ("case_ns", "stages_ns", "fault"),
    [
        (90, {"read": 40, "forward": 50}, False),
        (0, {"read": 0}, True),
        (-9, {"read": -9}, True),
        (101, {"read": 40}, True),
        (90, {"read": -1, "forward": 50}, True),
        (90, {"read": 41, "forward": 50}, True),
    ],
)
def test_times_that_do_not_fit_the_wait_for_them(case_ns, stages_ns, fault):
    wrong = clock_fault(case_ns, stages_ns, 100)
    assert (wrong is not None) == fault
    assert wrong is None or f"it counted {case_ns} ns for the case" in wrong


class Device:
    """A stream whose work takes so many milliseconds; its events tell no time before it has come to them."""

    def __init__(self) -> None:
        self.queued_ms = 0.0

    def work(self, ms: float) -> None:
        self.queued_ms += ms

    def record(self) -> "Point":
        return Point(self.queued_ms)


class Point:
    def __init__(self, at_ms: float) -> None:
        self.at_ms, self.reached = at_ms, False

    def synchronize(self) -> None:
        self.reached = True

    def elapsed_time(self, end: "Point") -> float:
        assert end.reached, "the stream has not come to it"
        return end.at_ms - self.at_ms


def test_stages_of_a_device_are_timed_by_its_events():
    device = Device()
    watch = EventStopwatch(device.record)
    with watch.stage("read"):
        pass
    with watch.stage("preprocess", device=True):
        device.work(2)
    with watch.stage("roi", device=True):
        device.work(1)
        with watch.stage("forward", device=True):
            device.work(5)
        device.work(0.5)
    with watch.stage("forward", device=True):
        device.work(7)
    assert set(watch.stages_ns) == {"read"}, "nothing has waited for the device"
    watch.settle()
    watch.settle()
    read_ns = watch.stages_ns.pop("read")
    assert 0 < read_ns < 1e9
    assert watch.stages_ns == {"preprocess": 2_000_000, "roi": 1_500_000, "forward": 12_000_000}


def test_a_stage_that_is_all_of_inner_ones_takes_no_time_and_not_less():
    device = Device()
    watch = EventStopwatch(device.record)
    with watch.stage("roi", device=True):
        for _ in range(3):
            with watch.stage("forward", device=True):
                device.work(0.1000006)
    watch.settle()
    assert watch.stages_ns["roi"] == 0
