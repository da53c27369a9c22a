"""What is freed stays with the process where that was asked for, and the run says which it was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.worker import allocator

needs_glibc = pytest.mark.skipif(not allocator.can_keep(), reason="the C library is not glibc")


pytestmark = pytest.mark.usefixtures("started_workers")  # a test puts a module into their place for such
# Tensors of 64 MB that come and go, as layers' outputs do; the faults are those of the second half.
FAULTS = """
import resource, sys
import torch
from bench.worker import allocator
if sys.argv[1] == "keep":
    assert allocator.keep_freed()
for number in range(20):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@needs_glibc
def test_what_is_kept_is_not_mapped_again():
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, check=True).stdout)

    pages = 10 * 2**26 // 2**16  # at least, with pages of 64 KiB
    assert faults("system") >= pages
    assert faults("keep") < pages / 10


@needs_glibc
def test_a_run_keeps_it_unless_asked_otherwise(bench):
    _, summary, _ = bench("--backends", "torch-fp32", "--rounds", "1", "--max-cases", "3")
    assert summary["settings"]["allocator"] == "keep"
    assert summary["controlled_settings"]["freed memory"] == "kept by the process"
    assert main(["run", "--resume", "--out", "run"]) == 2, "it is complete"
    record = json.loads(Path("run/run.json").read_text())
    assert record["settings"]["allocator"] == "keep"


def test_a_run_may_leave_it_to_the_system(bench):
    _, summary, _ = bench("--backends", "torch-fp32", "--rounds", "1", "--max-cases", "3", "--allocator", "system")
    assert summary["settings"]["allocator"] == "system"
    assert summary["controlled_settings"]["freed memory"] == "as the system's allocator has it"


def test_another_c_library_is_not_asked(bench, monkeypatch):
    monkeypatch.setattr(allocator, "can_keep", lambda: False)
    options = ("--backends", "torch-fp32", "--rounds", "1", "--max-cases", "3")
    code, _, printed = bench(*options, "--allocator", "keep")
    assert code == 2
    assert "--allocator keep: only glibc" in printed
    _, summary, _ = bench(*options)
    assert summary["settings"]["allocator"] == "system"


@needs_glibc
def test_a_refusal_costs_the_backend_not_the_run(bench, monkeypatch, tmp_path):
    """The worker says so where its C library does not do what it was asked."""
    (tmp_path / "sitecustomize.py").write_text("import bench.worker.allocator as a\na.keep_freed = lambda: False\n")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[3]}:{tmp_path}")
    code, _, printed = bench("--backends", "torch-fp32", "--rounds", "1", "--max-cases", "3")
    assert code == 4
    assert "use --allocator system" in printed
