"""What is said where a GPU cannot be used; NVML and PyTorch's view of CUDA are made up."""

import sys
from types import SimpleNamespace

import pytest
import torch

import engines
from engines import probe
from engines.host import cuda


@pytest.fixture
def machine(monkeypatch):
    """A machine with this driver (newest CUDA as NVML gives it, or None), PyTorch for this CUDA, and these devices."""

    def make(supports, built="13.0", names=(), capability=(9, 0), kernels=("sm_80", "sm_90", "compute_120")):
        def start():
            if supports is None:
                raise RuntimeError("NVML Shared Library Not Found")

        nvml = SimpleNamespace(
            nvmlInit=start, nvmlShutdown=lambda: None, nvmlSystemGetCudaDriverVersion_v2=lambda: supports,
            nvmlSystemGetDriverVersion=lambda: "550.54.14", nvmlDeviceGetCount=lambda: 2,
        )  # fmt: skip
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        monkeypatch.setattr(torch.version, "cuda", built)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: names[i if isinstance(i, int) else 0])
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(kernels))

    return make


def test_no_driver(machine):
    machine(None)
    absent = cuda.missing("cuda")
    assert absent.reason == f"PyTorch {torch.__version__} finds no NVIDIA driver"
    assert "--gpus all" in absent.fix


def test_a_driver_too_old_for_pytorch(machine):
    machine(12040)
    absent = cuda.missing("cuda")
    assert absent.reason == (
        f"PyTorch {torch.__version__} is built for CUDA 13.0, and there is driver 550.54.14 (CUDA up to 12.4)"
    )
    assert absent.fix.startswith("update the driver, or install PyTorch for CUDA 12;")


@pytest.mark.parametrize("supports", [13000, 13020, 14000])
def test_a_driver_of_the_same_major_version_is_not_too_old(supports, machine):
    machine(supports, built="13.1")
    assert "CUDA_VISIBLE_DEVICES" in cuda.missing("cuda").fix


def test_a_device_that_is_not_there(machine):
    machine(13000, names=("H200", "L4"))
    assert cuda.missing("cuda") is None
    assert cuda.missing("cuda:1") is None
    absent = cuda.missing("cuda:2")
    assert absent.reason == "there is no cuda:2; PyTorch sees cuda:0 (H200), cuda:1 (L4)"
    assert absent.fix == "--device cuda:0"


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((9, 0), ("sm_80", "sm_90"), True),
        ((8, 9), ("sm_80", "sm_90"), True),  # binary code runs on later minor versions of its major version
        ((8, 0), ("sm_86", "sm_90"), False),
        ((7, 0), ("sm_75", "sm_80"), False),
        ((12, 0), ("sm_90", "compute_90"), True),  # the driver translates for later GPUs
        ((12, 0), ("sm_90", "sm_100"), False),
        ((10, 3), ("sm_100", "sm_120"), True),
        ((7, 0), (), True),
    ],
)
def test_a_gpu_that_pytorch_is_not_built_for(capability, kernels, runs, machine):
    machine(13000, names=("Some GPU",), capability=capability, kernels=kernels)
    absent = cuda.missing("cuda")
    assert (absent is None) == runs
    if absent is not None:
        assert f"compute capability {capability[0]}.{capability[1]}" in absent.reason


def test_a_runtime_too_new_for_the_driver(machine, monkeypatch):
    installed = {"tensorrt_cu13"}
    monkeypatch.setattr(probe, "distribution_version", lambda name: "11.0" if name in installed else None)
    machine(12080)
    absent = probe._runtime_too_new(("onnx", "tensorrt"))
    assert absent.reason == "tensorrt is built for CUDA 13, and there is driver 550.54.14 (CUDA up to 12.8)"
    assert absent.fix == "update the driver, or pip install tensorrt-cu12"
    machine(13000)
    assert probe._runtime_too_new(("onnx", "tensorrt")) is None


@pytest.mark.parametrize(("capability", "named"), [((9, 0), True), ((10, 0), True), ((8, 9), False), ((12, 0), False)])
def test_tensorrt_for_rtx_names_the_gpus_it_does_not_run_on(capability, named, machine, target):
    machine(13000, names=("a GPU",), capability=capability, kernels=())
    reason = engines.load("tensorrt-rtx-fp16").probe(target("cuda")).reason or ""
    where = f"on a GPU (compute capability {capability[0]}.{capability[1]})"
    assert (reason == f"TensorRT for RTX does not run {where}") == named
