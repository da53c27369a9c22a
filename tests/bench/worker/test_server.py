"""What a worker takes of a GPU, as told while it is built; the GPU and its NVML are made up."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

import engines
from bench.machine.gpu import Meter
from bench.pipeline.settings import InferenceSettings
from bench.worker import server
from bench.worker.messages import Built, MakeReady, Open, Opened
from bench.worker.server import _Server
from engines.base import Target
from models.options import ModelOptions

GIB = 2**30
SIDE = 16


class Gpu:
    """An NVML that tells, as in a container, only how much of the device all processes take together."""

    NVMLError = RuntimeError

    def __init__(self):
        self.used = 3 * GIB  # by what has nothing to do with us

    def nvmlDeviceGetMemoryInfo(self, _):  # noqa: N802
        return SimpleNamespace(used=self.used, free=80 * GIB - self.used, total=80 * GIB)


@pytest.fixture
def gpu(monkeypatch):
    gpu, one_pass, taken = Gpu(), server._pass, set()

    def build(session, x):
        if id(session) not in taken:
            taken.add(id(session))
            gpu.used += 2 * GIB  # context, libraries and arena
        one_pass(session, x)

    monkeypatch.setattr(server, "_pass", build)
    monkeypatch.setattr(Meter, "of", classmethod(lambda cls, _: cls(gpu, "handle")))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: GIB)
    return gpu


def opened(request: Open, stack: ExitStack) -> tuple[_Server, Built]:
    worker = _Server(stack, None)
    built = worker.answer(request)
    assert isinstance(built, Built), built
    worker._device = "cuda"  # the network itself runs on the CPU here
    return worker, built


def test_memory_that_others_take_later_is_not_counted(gpu, network, tmp_path):
    settings = InferenceSettings(
        protocol="sliding-window", tile=(SIDE,) * 3, overlap=0.5, batch=1, roi="none", window=(-1000, 1000)
    )
    target = Target("cpu", (SIDE,) * 3, 1, 1, tmp_path)
    row = engines.BACKENDS["torch-fp32"]
    with ExitStack() as stack:
        workers = []
        for name in ("first", "second", "third"):
            request = Open(name, row, network[0], None, ModelOptions(), target, settings, warm=False)
            worker, built = opened(request, stack)
            assert worker._peak_memory() == 2 * GIB, "more than PyTorch's own"
            assert built.device_memory == (80 * GIB - gpu.used, 80 * GIB)
            workers.append(worker)
        for worker in workers:
            worker._device = "cpu"
            assert isinstance(worker.answer(MakeReady()), Opened)
            worker._device = "cuda"
            assert worker._peak_memory() == 2 * GIB


@pytest.mark.parametrize("freed", [2 * GIB, 5 * GIB])
@pytest.mark.parametrize(("by_pytorch", "peak"), [(True, GIB), (False, None)])
def test_what_shrank_meanwhile_tells_nothing(gpu, freed, by_pytorch, peak):
    worker = _Server(ExitStack(), None)
    worker._device, worker._meter, worker._by_pytorch = "cuda", Meter.of("cuda"), by_pytorch
    gpu.used += 2 * GIB - freed
    worker._grown_by = worker._since(3 * GIB)
    assert worker._grown_by is None
    assert worker._peak_memory() == peak, "PyTorch's own, where it is PyTorch that takes the memory"
