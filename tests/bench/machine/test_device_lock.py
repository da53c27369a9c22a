"""A GPU that one worker at a time has to itself, by processes."""

import subprocess
import sys
from select import select
from types import SimpleNamespace

import torch

from bench.machine import device_lock
from bench.machine.device_lock import lock_file, to_itself
from bench.worker.messages import Call
from bench.worker.process import WorkerProcess
from bench.worker.questions import measure_peak

HOLD = """
import sys
from bench.machine.device_lock import to_itself
with to_itself(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""
ABSENT = "cuda:91"  # and its neighbours: so that no test waits for a run on this machine


def hold(device: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, device]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_at_a_time_holds_a_gpu_and_any_number_a_cpu():
    with hold(ABSENT) as first:
        assert first.stdout.readline() == "held\n"
        with hold(ABSENT) as same, hold("cuda:92") as other, hold("cpu") as cpu:
            assert [process.stdout.readline() for process in (other, cpu)] == ["held\n"] * 2
            assert not select([same.stdout], [], [], 0.5)[0], "it waits, while others were quick"
            first.communicate("\n")
            assert same.stdout.readline() == "held\n", "once the first has let go"
            for process in (same, other, cpu):
                process.communicate("\n")


def test_a_process_that_dies_lets_go():
    with hold("cuda:93") as first:
        assert first.stdout.readline() == "held\n"
        first.kill()
    with to_itself("cuda:93"):
        assert lock_file("cuda:93").exists()


def test_workers_wait_for_one_another_though_each_has_a_temporary_folder_of_its_own():
    with WorkerProcess(1) as first, WorkerProcess(1) as second:
        files = {worker.call(lock_file, "cuda:94", timeout_s=60) for worker in (first, second)}
        assert files == {lock_file("cuda:94")}
        with to_itself("cuda:94"):
            for worker in (first, second):
                worker.send(Call(measure_peak.__module__, measure_peak.__qualname__, ("cuda:94", 1)))
            assert not first.connection.poll(1)
            assert not second.connection.poll(1)
        for worker in (first, second):
            assert worker.receive(60) is not None, "there is no such device, as it says now"


def test_a_gpu_has_one_lock_whatever_its_number_in_a_process(monkeypatch):
    """One process sees two GPUs, the other by CUDA_VISIBLE_DEVICES=1 the second of them alone."""
    seen = {"cuda:0": "aaaa", "cuda:1": "bbbb"}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=seen[device]))
    both = [lock_file(device) for device in seen]
    seen = {"cuda:0": "bbbb"}
    assert both[0] != both[1] == lock_file("cuda:0")


def test_without_an_identity_it_is_the_number():
    assert lock_file("cuda").name.endswith("-cuda-0.lock") or torch.cuda.is_available()
    assert lock_file("cuda") == lock_file("cuda:0") != lock_file("cuda:1")


def test_where_no_shared_folder_can_be_written_to_it_is_the_systems_temporary_one(monkeypatch, tmp_path):
    monkeypatch.setattr(device_lock, "_SHARED", (str(tmp_path / "absent"), str(tmp_path)))
    assert lock_file(ABSENT).parent == tmp_path
    monkeypatch.setattr(device_lock, "_SHARED", (str(tmp_path / "absent"),))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "other"))
    assert lock_file(ABSENT).parent == tmp_path / "other"
