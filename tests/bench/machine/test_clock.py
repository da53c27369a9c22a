"""The peak of real processes."""

import subprocess
import sys

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
