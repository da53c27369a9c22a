"""What the GPU was like while a variant was timed, over the readings after its samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

from reports.records.record import GpuState, Sample
from reports.stats.scores import median

# Of a case whose energy and power are reported. A step of the counter of energy is then about a tenth of it; and NVML's
# power is the mean of the last second from Ampere on (nvmlDeviceGetPowerUsage), so of nothing but that case.
_COUNTED_NS = 1_000_000_000


@dataclass(frozen=True)
class GpuUse:
    """Readings of one variant's samples; NaN where NVML reports nothing.

    Attributes:
        sm_mhz, sm_mhz_low, sm_mhz_high: median, smallest and largest clock of the multiprocessors.
        temperature_c: the highest.
        power_w, energy_j: medians, of the whole board; NaN also for cases of less than a second.
        throttled: share of the samples with a reason for lower clocks; `throttled_by`: all of those reasons.
        shared: share of the samples beside which a process that is not the run's computed on the device.
    """

    samples: int
    sm_mhz: float = nan
    sm_mhz_low: float = nan
    sm_mhz_high: float = nan
    temperature_c: float = nan
    power_w: float = nan
    energy_j: float = nan
    throttled: float = 0.0
    throttled_by: tuple[str, ...] = ()
    shared: float = 0.0


def gpu_use(samples: Sequence[Sample]) -> GpuUse | None:
    """Sum up the readings; None where there are none, as on a CPU."""
    states = [sample.gpu for sample in samples if sample.gpu is not None]
    if not states:
        return None
    clocks = _known(state.sm_mhz for state in states)
    return GpuUse(
        samples=len(states),
        sm_mhz=median(clocks),
        sm_mhz_low=min(clocks, default=nan),
        sm_mhz_high=max(clocks, default=nan),
        temperature_c=max(_known(state.temperature_c for state in states), default=nan),
        power_w=median(_known(state.power_w for state in _counted(samples))),
        energy_j=energy_j(samples),
        throttled=_share(bool(state.throttled_by) for state in states),
        throttled_by=tuple(sorted({reason for state in states for reason in state.throttled_by})),
        shared=_share(is_shared(sample.gpu, sample.workers) for sample in samples if sample.gpu is not None),
    )


def energy_j(samples: Iterable[Sample]) -> float:
    """Median energy of a case, of the whole board; NaN where NVML reports none, and for cases of less than a second.

    The board's counter moves in steps: on an H100 it reported 0 J of one case of 20 ms, and 25 J of the next.
    """
    return median(_known(state.energy_j for state in _counted(samples)))


def _counted(samples: Iterable[Sample]) -> list[GpuState]:
    """Readings after cases that lasted long enough for figures that are read over a time."""
    return [s.gpu for s in samples if s.gpu is not None and s.case_ns >= _COUNTED_NS]


def is_shared(state: GpuState, workers: int | None) -> bool:
    """Whether more processes computed on the GPU than the run's workers; not, where either is unknown."""
    return state.processes is not None and workers is not None and state.processes > workers


def _known(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _share(flags: Iterable[bool]) -> float:
    listed = list(flags)
    return sum(listed) / len(listed)
