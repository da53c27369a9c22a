"""What the GPU was like at the end of a case, by NVML; read outside the timed interval, and optional throughout."""

import os
from typing import Any

from reports.records.record import GpuState

# Names of the bits in NVML's clock event reasons; the ones of no concern (idle, clocks set by an application) are last.
_REASONS = (
    ("software power cap", "nvmlClocksEventReasonSwPowerCap"),
    ("hardware slowdown", "nvmlClocksEventReasonHwSlowdown"),
    ("software thermal slowdown", "nvmlClocksEventReasonSwThermalSlowdown"),
    ("hardware thermal slowdown", "nvmlClocksEventReasonHwThermalSlowdown"),
    ("hardware power brake", "nvmlClocksEventReasonHwPowerBrakeSlowdown"),
    ("sync boost", "nvmlClocksEventReasonSyncBoost"),
)


def uuid_of(device: str) -> str | None:
    """The identity of a CUDA device, whatever CUDA_VISIBLE_DEVICES calls it; None where PyTorch finds no such device.

    No context is made on it for that, which would take memory of the device.
    """
    try:
        import torch

        return str(torch.cuda.get_device_properties(device).uuid)
    except (ImportError, AssertionError, RuntimeError, AttributeError):  # as PyTorch without CUDA raises
        return None


class Meter:
    """Reads one GPU; reads nothing where there is no NVML. A figure that NVML refuses is None."""

    def __init__(self, library: Any = None, handle: Any = None) -> None:
        """`library`: the module pynvml, started; `handle`: its handle of the device."""
        self._library, self._handle = library, handle
        self._energy_mj: int | None = None

    @classmethod
    def of(cls, device: str) -> "Meter":
        """The meter of a device of PyTorch's, ``cpu``, ``cuda`` or ``cuda:N``."""
        if not device.startswith("cuda"):
            return cls()
        try:
            import pynvml

            pynvml.nvmlInit()
            # By its identity: CUDA_VISIBLE_DEVICES gives PyTorch's numbers an order that NVML does not know.
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid_of(device)}"))
        except Exception as error:  # no package, no driver, a MIG slice: a run without these figures is still a run
            print(f"no GPU telemetry: {type(error).__name__}: {error}")
            return cls()

    def start(self) -> None:
        """Begin to count a case's energy."""
        self._energy_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")

    def state(self) -> GpuState | None:
        """The GPU now, and the energy since `start`."""
        if self._library is None:
            return None
        energy, power = self._ask("nvmlDeviceGetTotalEnergyConsumption"), self._ask("nvmlDeviceGetPowerUsage")
        before = self._energy_mj
        counted = energy is not None and before is not None and energy >= before  # a driver's restart sets it back
        return GpuState(
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
            memory_mhz=self._ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
            temperature_c=self._ask("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
            power_w=None if power is None else power / 1e3,
            energy_j=(energy - before) / 1e3 if counted else None,
            throttled_by=self._throttled_by(),
            process_memory_bytes=self.process_memory_bytes(),
            processes=self._processes(),
        )

    def process_memory_bytes(self) -> int | None:
        """Device memory of this process, whichever library took it; None where NVML cannot tell, as in containers."""
        for process in self._ask("nvmlDeviceGetComputeRunningProcesses") or []:
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    def used_memory_bytes(self) -> int | None:
        """Device memory in use by anyone."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes of device memory that are free, and all of them."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else (int(memory.free), int(memory.total))

    def power_limit_w(self) -> float | None:
        """What the board may draw."""
        milliwatts = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        return None if milliwatts is None else milliwatts / 1e3

    def _processes(self) -> int | None:
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return None if processes is None else len(processes)

    def _throttled_by(self) -> tuple[str, ...]:
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # by its name before driver 535
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return tuple(name for name, constant in _REASONS if bits & getattr(self._library, constant, 0))

    def _ask(self, question: str, *constants: str) -> Any:
        if self._library is None:
            return None
        try:
            arguments = [getattr(self._library, name) for name in constants]
            return getattr(self._library, question)(self._handle, *arguments)
        except (self._library.NVMLError, AttributeError):  # not supported by this GPU, driver or package
            return None
