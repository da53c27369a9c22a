"""How much memory reading a checkpoint takes."""

import subprocess
import sys
from pathlib import Path

import pytest

_READ = """
import sys
from pathlib import Path
from models.load import read_checkpoint
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
read_checkpoint(Path(sys.argv[1]))
before = peak()
read_checkpoint(Path(sys.argv[2]))
print(peak() - before)
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def growth(small: Path, large: Path) -> int:
    """Peak memory, in kB, by which a process grows that has read `small` and reads `large`."""
    command = [sys.executable, "-c", _READ, str(small), str(large)]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    return int(run.stdout)
