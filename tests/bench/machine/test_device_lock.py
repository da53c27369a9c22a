"""A GPU that one worker at a time has to itself, by processes."""

import subprocess
import sys
from select import select

from bench.machine.device_lock import to_itself

HOLD = """
import sys
from bench.machine.device_lock import to_itself
with to_itself(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(device: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, device]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_at_a_time_holds_a_gpu_and_any_number_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with hold("cuda") as first:
        assert first.stdout.readline() == "held\n"
        with hold("cuda:0") as same, hold("cuda:1") as other, hold("cpu") as cpu:
            assert [process.stdout.readline() for process in (other, cpu)] == ["held\n"] * 2
            assert not select([same.stdout], [], [], 0.5)[0], "it waits, while others were quick"
            first.communicate("\n")
            assert same.stdout.readline() == "held\n", "once the first has let go"
            for process in (same, other, cpu):
                process.communicate("\n")


def test_a_process_that_dies_lets_go(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with hold("cuda:3") as first:
        assert first.stdout.readline() == "held\n"
        first.kill()
    with to_itself("cuda:3"):
        assert list(tmp_path.glob("voxbench-*-cuda-3.lock"))
