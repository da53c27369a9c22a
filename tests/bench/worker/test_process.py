"""Workers as processes: light when skipped, gone when stopped."""

import resource
import shutil
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch

import engines
from bench.pipeline.settings import InferenceSettings
from bench.worker.messages import Broke, Open, Opened, Predict, Predicted
from bench.worker.process import CallError, WorkerLostError, WorkerProcess
from bench.worker.questions import probe, repeat_work, try_import
from engines.base import Availability, Target
from models.networks.unet import MultiTaskUNet
from models.options import ModelOptions
from tests.bench.forked import running_workers

pytestmark = pytest.mark.usefixtures("started_workers")

TILE = (32, 32, 32)
ROOM = "make room or choose another folder"


@pytest.fixture
def files(tmp_path) -> Path:
    torch.save({"model_state_dict": MultiTaskUNet(2).state_dict()}, tmp_path / "model.pth")
    hu = np.random.default_rng(0).normal(0, 300, (48, 40, 32)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.eye(4)), tmp_path / "a_0000.nii.gz")
    return tmp_path


@pytest.fixture
def start(files):
    workers = []

    def begin(name: str) -> tuple[WorkerProcess, object]:
        worker = WorkerProcess(2, files / f"{name}.log")
        workers.append(worker)
        target = Target("cpu", TILE, 1, 2, files / "cache")
        settings = InferenceSettings(
            protocol="sliding-window", tile=TILE, overlap=0.5, batch=1, roi="none", window=(-1000, 1000)
        )
        request = Open(name, engines.BACKENDS[name], files / "model.pth", None, ModelOptions(), target, settings)
        return worker, worker.ask(request, 300)

    yield begin
    for worker in workers:
        worker.stop()


def test_idle_workers_sleep(files, start):
    """A pool that spins after its work would take the cores from the backend that is timed next."""
    for name in ("torch-fp32", "ort-fp32", "openvino-fp32"):
        worker, opened = start(name)
        assert isinstance(opened, Opened), opened
        for _ in range(3):
            assert isinstance(worker.ask(Predict((files / "a_0000.nii.gz",), files / "a.nii.gz"), 300), Predicted)
    time.sleep(0.3)
    idle = [child for child in psutil.Process().children() if "bench.worker.server" in child.cmdline()]
    assert len(idle) == 3
    before = [sum(child.cpu_times()[:2]) for child in idle]
    time.sleep(1.5)
    spent = [sum(child.cpu_times()[:2]) - start for child, start in zip(idle, before, strict=True)]
    assert max(spent) < 0.1, spent


def test_a_case_that_cannot_be_read_leaves_the_worker_usable(files, start):
    worker, _ = start("torch-fp32")
    reply = worker.ask(Predict((files / "nothing_0000.nii.gz",), files / "b.nii.gz"), 60)
    assert isinstance(reply, Broke)
    assert "no such file" in reply.reason
    assert not (files / "b.nii.gz").exists()
    assert isinstance(worker.ask(Predict((files / "a_0000.nii.gz",), files / "a.nii.gz"), 60), Predicted)


def test_a_probe_answers_without_building(files, start):
    worker, reply = start("tensorrt-int8")
    assert isinstance(reply, Availability)
    assert not reply.ok
    target = Target("cpu", TILE, 1, 1, files)
    assert worker.call(probe, "torch-fp32", engines.BACKENDS["torch-fp32"], target, timeout_s=60).ok


def test_a_function_that_raises_leaves_the_worker_usable():
    with WorkerProcess(1) as worker:
        with pytest.raises(CallError, match="No module named 'no_such_package'"):
            worker.call(try_import, "no_such_package", timeout_s=60)
        assert worker.call(try_import, "json", timeout_s=60) is None
    assert not psutil.pid_exists(worker.pid)


def test_what_breaks_beside_a_question_is_no_fault_of_the_worker():
    def broken() -> None:
        raise BrokenPipeError("nobody reads")

    with WorkerProcess(1) as worker:
        with pytest.raises(BrokenPipeError, match="nobody reads"):
            worker.call(repeat_work, 1.0, timeout_s=60, meanwhile=broken)
        assert worker.receive(60) is not None, "it lives on"


def test_only_functions_of_ours_are_called():
    with WorkerProcess(1) as worker, pytest.raises(CallError, match="only functions of ours"):
        worker.call(shutil.rmtree, "/nowhere", timeout_s=60)


def test_a_full_disk_is_no_fault_of_the_backend(files, start):
    worker, _ = start("torch-fp32")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (10, hard))
    reply = worker.ask(Predict((files / "a_0000.nii.gz",), files / "a.nii.gz"), 60)
    assert reply == Broke(f"StorageError: {files}/a.nii.gz: cannot be written (File too large); {ROOM}", no_room=True)
    assert not list(files.glob("*a.nii.gz"))
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert isinstance(worker.ask(Predict((files / "a_0000.nii.gz",), files / "a.nii.gz"), 60), Predicted)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_on_a_full_disk_ends_nothing():
    with WorkerProcess(1, Path("/dev/full")) as worker:
        for _ in range(2):
            with pytest.raises(CallError, match="No module named 'no_such_package'"):
                worker.call(try_import, "no_such_package", timeout_s=60)


def test_a_worker_has_a_temporary_folder_of_its_own_also_where_there_is_no_home(monkeypatch, tmp_path):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what Python takes instead
    with WorkerProcess(1) as worker:
        while not (variables := psutil.Process(worker.pid).environ()):  # a process is there before its variables are
            time.sleep(0.01)
        assert Path(variables["TMPDIR"]).parent == tmp_path
        assert variables["HOME"] == variables["TMPDIR"]
        (Path(variables["TMPDIR"]) / "left").write_text("by a process that was killed")
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_worker_is_lost_to_the_next_question(files, start):
    worker, _ = start("torch-fp32")
    for each in running_workers():
        each.kill()
    with pytest.raises(WorkerLostError, match="killed by SIGKILL"):
        worker.ask(Predict((files / "a_0000.nii.gz",), files / "a.nii.gz"), 60)


def test_a_backend_is_warm_when_it_is_open(files, start):
    _, opened = start("torch-fp32")
    assert 3 <= opened.warmup["passes"] <= 20
    assert opened.warmup["seconds"] > 0
    assert opened.warmup["stable"] or opened.warmup["passes"] == 20 or opened.warmup["seconds"] >= 20
