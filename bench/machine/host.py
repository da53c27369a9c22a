"""What a run ran on."""

import os
import platform
from typing import Any

import psutil

from bench.errors import InputError
from bench.machine.gpu import Meter
from engines import BACKENDS, probe
from engines.host import cpu, cuda
from reports.records.record import HostRecord

# ONNX Runtime for GPUs is another distribution of the same module, and Triton comes with PyTorch.
_DISTRIBUTIONS = (
    "voxbench", "torch", "numpy", "nibabel",
    *(package for backend in BACKENDS.values() for package in (*backend.runtime.packages, *backend.packages)),
    "onnxruntime-gpu", "triton", "nvidia-ml-py",
)  # fmt: skip


def available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_threads() -> int:
    """Threads for a pool: one for each core at hand, hyper-threads not counted."""
    return max(1, min(available_cores(), psutil.cpu_count(logical=False) or available_cores()))


def describe(device: str) -> HostRecord:
    """Processor and its instruction sets, memory, system and, for a CUDA device, the GPU."""
    return HostRecord(
        processor=cpu.processor() or platform.machine(),
        cpu_features=", ".join(cpu.instruction_sets()) or None,
        cores=available_cores(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        **(describe_gpu(device) if device.startswith("cuda") else {}),
    )


def describe_gpu(device: str) -> dict[str, Any]:
    """A CUDA device, by PyTorch and NVML."""
    import torch

    properties, driver = torch.cuda.get_device_properties(device), cuda.driver()
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": driver and str(driver).removeprefix("driver "),
        "power_limit_w": Meter.of(device).power_limit_w(),
        "cuda": torch.version.cuda,
    }


def versions() -> dict[str, str]:
    """Versions of every runtime that is installed."""
    return probe.versions(*_DISTRIBUTIONS)


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
