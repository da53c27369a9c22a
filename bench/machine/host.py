"""What a run ran on, and how much of it this process may use."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil

from bench.errors import InputError
from bench.machine import cgroup
from bench.machine.gpu import Meter
from engines import BACKENDS, probe
from engines.host import cpu, cuda
from reports.records.record import HostRecord

# ONNX Runtime for GPUs is another distribution of the same module, and Triton comes with PyTorch.
_DISTRIBUTIONS = (
    "voxbench", "torch", "numpy", "nibabel",
    *(package for backend in BACKENDS.values() for package in backend.to_build),
    "onnxruntime-gpu", "triton", "nvidia-ml-py",
)  # fmt: skip


_TOPOLOGY = Path("/sys/devices/system/cpu")


def allowed_cpus() -> set[int]:
    """Numbers of the logical CPUs that this process may run on, which a container or `taskset` may have cut."""
    everything = set(range(os.cpu_count() or 1))
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else everything


def physical_cores(cpus: set[int], topology: Path = _TOPOLOGY) -> int:
    """Cores that these logical CPUs lie on; two hyper-threads are one core."""
    siblings = set()
    for number in cpus:
        try:
            siblings.add((topology / f"cpu{number}/topology/thread_siblings_list").read_text().strip())
        except OSError:  # no Linux, or a system that hides it: as many as the machine has, at most
            return min(len(cpus), psutil.cpu_count(logical=False) or len(cpus))
    return len(siblings)


def physical_threads(root: Path = cgroup.ROOT) -> int:
    """Threads for a pool: one for each core at hand, and no more than a CPU quota can keep running.

    Of 2.5 CPUs two: with three threads the quota of a period is spent before it ends, and all of them then stand still
    for the rest of it, in the midst of what is being timed.
    """
    cores, quota = physical_cores(allowed_cpus()), cgroup.cpu_quota(root)
    return max(1, cores if quota is None else min(cores, int(quota)))


def threads_like(recorded: int | None, root: Path = cgroup.ROOT) -> int:
    """As many threads as were `recorded`, maybe on another machine, so that sums are made in the same order.

    Where none are recorded, or this process has fewer CPUs, as `physical_threads`.
    """
    quota, cpus = cgroup.cpu_quota(root), len(allowed_cpus())
    usable = cpus if quota is None else min(cpus, max(1, int(quota)))
    return recorded if recorded and recorded <= usable else physical_threads(root)


def memory(root: Path = cgroup.ROOT) -> tuple[int, int]:
    """Bytes of memory that can be had now without swapping, and of all, for this process."""
    machine = psutil.virtual_memory()
    limit, left = cgroup.memory_limit(root), cgroup.memory_available(root)
    return (
        machine.available if left is None else min(machine.available, left),
        machine.total if limit is None else min(machine.total, limit),
    )


def describe(device: str, root: Path = cgroup.ROOT) -> HostRecord:
    """Processor and its instruction sets, memory, system and, for a CUDA device, the GPU."""
    cpus, limit, total = allowed_cpus(), cgroup.memory_limit(root), psutil.virtual_memory().total
    quota, all_cpus = cgroup.cpu_quota(root), os.cpu_count() or 1
    return HostRecord(
        processor=cpu.processor() or platform.machine(),
        cpu_features=", ".join(cpu.instruction_sets()) or None,
        cores=len(cpus),
        physical_cores=physical_cores(cpus),
        machine_cores=all_cpus if all_cpus > len(cpus) else None,
        cpu_quota=quota if quota is not None and quota < len(cpus) else None,
        memory_bytes=total,
        memory_limit_bytes=limit if limit is not None and limit < total else None,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        **(describe_gpu(device) if device.startswith("cuda") else {}),
    )


def limits_of(record: HostRecord) -> tuple[str, ...]:
    """How much less than the machine has the process may use, one line each; empty where all of it."""
    limits = []
    if record.machine_cores is not None:
        limits.append(f"the process may run on {record.cores} of the machine's {record.machine_cores} cores")
    if record.cpu_quota is not None:
        limits.append(
            f"the control group allows {record.cpu_quota:g} CPUs of {record.cores}, so no pool should have more threads"
        )
    if record.memory_limit_bytes is not None and record.memory_bytes is not None:
        allowed, there = (f"{size / 2**30:.1f} GiB" for size in (record.memory_limit_bytes, record.memory_bytes))
        limits.append(f"the control group allows {allowed} of the machine's {there} of memory")
    return tuple(limits)


def changes_since(began: HostRecord, here: HostRecord) -> tuple[str, ...]:
    """What of a machine may change while a run is interrupted, and did, one line each."""
    facts = {"system": "the system", "driver": "the GPU's driver", "power_limit_w": "a GPU's power limit in W of"}
    both = [(what, getattr(began, name), getattr(here, name)) for name, what in facts.items()]
    return tuple(f"resumed with {what} {now}, begun with {then}" for what, then, now in both if now != then and then)


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
