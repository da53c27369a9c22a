"""The peak of real processes, and times that cannot be."""

import subprocess
import sys

import pytest

from bench.machine.clock import clock_fault

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
