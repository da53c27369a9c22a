"""What a worker may be asked beside its cases: functions without a state, called by `WorkerProcess.call`.

Each runs in a process of its own, since a broken runtime can take its process along. Heavy imports stay inside.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import engines
from bench.machine.device_lock import to_itself
from bench.machine.gpu import Meter
from engines.base import Availability, Backend, EngineError, Target
from models.options import ModelOptions
from reports.records.record import GpuState


@dataclass(frozen=True)
class DeviceChoice:
    """The device to take.

    Attributes:
        absent: why there is no CUDA device; None where `device` is one.
        gpu: what it is.
    """

    device: str
    absent: Availability | None
    gpu: dict[str, Any]


@dataclass(frozen=True)
class Peak:
    """Operations a second and the library that reached them, by precision; bytes read and written a second."""

    flops: dict[str, tuple[float, str]]
    bytes_per_s: float | None


@dataclass(frozen=True)
class Repetitions:
    """Nanoseconds of each piece of work, and the processor time of them all."""

    times_ns: list[int]
    cpu_ns: int


def probe(name: str, backend: Backend, target: Target) -> Availability:
    """Whether this backend could be built."""
    return engines.load(name, backend).probe(target)


def find_device(wanted: str) -> DeviceChoice:
    """Whether PyTorch can compute on the `wanted` device, ``auto`` among them."""
    from bench.machine import host
    from engines.host import cuda

    absent = cuda.missing("cuda" if wanted in ("auto", "cpu") else wanted)
    device = ("cuda" if absent is None else "cpu") if wanted == "auto" else wanted
    return DeviceChoice(device, absent, {} if absent else host.describe_gpu(device if device != "cpu" else "cuda"))


def find_faults(device: str) -> tuple[str, ...]:
    """Known faults of what is installed, with their sources."""
    from engines.host import known_faults

    return tuple(f"{known_faults.words(fault)} ({fault.source})" for fault in known_faults.present(device))


def step_between_tiles(
    path: Path, options: ModelOptions, widen_to: int | None, target: Target, steps: Sequence[int]
) -> int:
    """The first of `steps` by which all sides of the target's tile may be larger for this network; 0 for none."""
    from engines.probe import refuse_tile
    from models.load import load_models

    x, y, z = target.tile
    with load_models((path,), options, widen_to) as (model,):
        for step in steps:
            with suppress(EngineError):
                refuse_tile(model.module, replace(target, tile=(x + step, y + step, z + step), batch=1))
                return step
    return 0


def try_import(package: str) -> None:
    """Import a package, for what that raises."""
    import_module(package)


def measure_peak(device: str, threads: int) -> Peak:
    """How fast `device` multiplies matrices and moves memory, while nothing of ours is built there."""
    import torch

    from bench.machine.peak import measure, measure_bandwidth

    torch.set_num_threads(threads)
    with to_itself(device):
        return Peak(measure(device, threads), measure_bandwidth(device))


def repeat_work(seconds: float) -> Repetitions:
    """Do a fixed piece of work again and again for so long."""
    from bench.machine.fixed_work import repeat

    cpu = time.process_time_ns()
    times = repeat(seconds)
    return Repetitions(times, time.process_time_ns() - cpu)


def read_gpu(device: str) -> GpuState | None:
    """How this CUDA device does; None where NVML does not say."""
    import torch

    torch.zeros(1, device=device)  # this process then is one of those that compute there, for certain
    return Meter.of(device).state()
