"""How much memory reading a checkpoint takes."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

_READ = """
import sys
from pathlib import Path
from models.load import read_checkpoint
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
for path in sys.argv[1:]:
    read_checkpoint(Path(path))
    print(peak())
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def growth(small: Path, *larger: Path) -> list[int]:
    """Peak memory, in kB, by which a process that has read `small` grows with each of `larger`, in turn."""
    command = [sys.executable, "-c", _READ, *map(str, (small, *larger))]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    return [after - before for before, after in pairwise(map(int, run.stdout.split()))]
