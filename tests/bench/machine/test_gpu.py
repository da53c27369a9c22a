"""Readings of a GPU, from a library that answers as NVML does; and its peak, measured (`test_cuda` has a CPU's)."""

import os
from types import SimpleNamespace

import pytest

from bench.machine import peak
from bench.machine.gpu import Meter
from reports.records.record import GpuState


class NVMLError(Exception):
    pass


REASONS = {"GpuIdle": 1, "SwPowerCap": 4, "HwSlowdown": 8, "SwThermalSlowdown": 0x20}


class Library:
    """An NVML whose device is at one state; questions in `refused` are not supported, as on some GPUs."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, refused=(), reasons=0, others=(4242,)):
        self._refused, self._energy = refused, 5000
        self._answers = {
            "nvmlDeviceGetClockInfo": lambda kind: {1: 1980, 2: 2619}[kind],
            "nvmlDeviceGetTemperature": lambda kind: {0: 41}[kind],
            "nvmlDeviceGetPowerUsage": lambda: 312_500,
            "nvmlDeviceGetEnforcedPowerLimit": lambda: 700_000,
            "nvmlDeviceGetTotalEnergyConsumption": self._spent,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda: reasons,
            "nvmlDeviceGetMemoryInfo": lambda: SimpleNamespace(used=3 * 2**30),
            "nvmlDeviceGetComputeRunningProcesses": lambda: [
                SimpleNamespace(pid=pid, usedGpuMemory=2**30) for pid in (os.getpid(), *others)
            ],
        }

    def __getattr__(self, name):
        if name.removeprefix("nvmlClocksEventReason") in REASONS:
            return REASONS[name.removeprefix("nvmlClocksEventReason")]
        if name not in self._answers:
            raise AttributeError(name)

        def ask(handle, *arguments):
            assert handle == "handle"
            if name in self._refused:
                raise NVMLError("Not Supported")
            return self._answers[name](*arguments)

        return ask

    def _spent(self):
        self._energy += 1500  # mJ between any two readings
        return self._energy


def read(**settings):
    meter = Meter(Library(**settings), "handle")
    meter.start()
    return meter.state()


def test_units():
    assert read() == GpuState(
        sm_mhz=1980, memory_mhz=2619, temperature_c=41, power_w=312.5, energy_j=1.5, throttled_by=(),
        process_memory_bytes=2**30, processes=2,
    )  # fmt: skip


def test_an_idle_gpu_is_not_throttled_and_a_hot_one_is():
    assert read(reasons=1).throttled_by == ()
    assert read(reasons=4 | 0x20).throttled_by == ("software power cap", "software thermal slowdown")


def test_what_the_gpu_does_not_report_is_none_and_the_rest_is_reported():
    result = read(refused=("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"))
    assert (result.energy_j, result.power_w, result.sm_mhz) == (None, None, 1980)
    nothing = read(refused=("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetCurrentClocksEventReasons"))
    assert (nothing.processes, nothing.process_memory_bytes, nothing.throttled_by) == (None, None, ())


def test_memory_of_another_process_is_not_ours():
    library = Library()
    library._answers["nvmlDeviceGetComputeRunningProcesses"] = lambda: [SimpleNamespace(pid=1, usedGpuMemory=7)]
    assert Meter(library, "handle").process_memory_bytes() is None
    assert Meter(library, "handle").used_memory_bytes() == 3 * 2**30
    assert Meter(library, "handle").power_limit_w() == 700


def test_without_a_gpu_nothing_is_read(capsys):
    meter = Meter.of("cpu")
    meter.start()
    assert meter.state() is None
    assert meter.power_limit_w() is None
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
def test_a_real_gpu_is_read():
    import torch

    meter = Meter.of("cuda")
    meter.start()
    torch.rand(4096, 4096, device="cuda") @ torch.rand(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    state = meter.state()
    assert state is not None
    assert state.sm_mhz > 0
    assert state.temperature_c > 0


def test_a_precision_that_is_emulated_is_left_out(monkeypatch):
    rates = {"fp32": 1e11, "fp16": 1e9, "bf16": 2e11, "int8": 6e9}
    monkeypatch.setattr(peak, "_best", lambda _device, precision, _side, _repeats: rates[precision])
    assert peak._by_pytorch("cpu") == {"fp32": 1e11, "bf16": 2e11, "int8": 6e9}


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_higher_in_half_precision():
    result = peak.measure("cuda", 1)
    assert result["fp16"] > result["fp32"]
