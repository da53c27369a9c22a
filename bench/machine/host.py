"""What a run ran on."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bench.errors import InputError
from bench.machine.gpu import Meter
from engines.host import cuda
from engines.host.cpu import instruction_sets

_DISTRIBUTIONS = (
    "voxbench", "torch", "numpy", "nibabel", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "nncf",
    "tensorrt", "tensorrt-rtx", "torch-tensorrt", "triton", "nvidia-ml-py",
)  # fmt: skip


def available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_threads() -> int:
    """Threads for a pool: one for each core at hand, hyper-threads not counted."""
    return max(1, min(available_cores(), psutil.cpu_count(logical=False) or available_cores()))


def describe(device: str) -> dict[str, Any]:
    """Processor and its instruction sets, memory, system and, for a CUDA device, the GPU."""
    host: dict[str, Any] = {
        "processor": processor(),
        "instructions": ", ".join(instruction_sets()) or "not told",
        "cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return host | (describe_gpu(device) if device.startswith("cuda") else {})


def describe_gpu(device: str) -> dict[str, Any]:
    """A CUDA device, by PyTorch and NVML."""
    import torch

    properties, found = torch.cuda.get_device_properties(device), cuda.driver()
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": found and str(found).removeprefix("driver "),
        "power_limit_w": Meter.of(device).power_limit_w(),
        "cuda": torch.version.cuda,
    }


def processor() -> str:
    """Name of the processor, as the system tells it."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of every runtime that is installed."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def resolve_device(wanted: str) -> str:
    """Turn `auto` into a device that is there.

    Raises:
        InputError: the wanted one is not.
    """
    if wanted == "cpu":
        return "cpu"
    absent = cuda.missing("cuda" if wanted == "auto" else wanted)
    if absent is None:
        return "cuda" if wanted == "auto" else wanted
    if wanted == "auto":
        return "cpu"
    raise InputError(f"--device {wanted}: {absent.reason}; {absent.fix}")
