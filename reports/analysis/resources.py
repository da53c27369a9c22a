"""What a variant takes beside time: processor, memory, energy, and the building of its engine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, nan

from reports.analysis.gpu import energy_j
from reports.records.record import Sample, VariantRecord
from reports.stats.scores import median

_MB = 2**20  # as NVML's tools, and FLARE with them, count it
FLARE22_FREE_MB = 2048  # of GPU memory that FLARE22 did not count: m = max(0, m - 2048)


@dataclass(frozen=True)
class Resources:
    """Of one case, each the median over the samples; NaN where it was not measured.

    FLARE (Ma et al., FLARE22, Lancet Digital Health 2024) sums what it samples about every 0.1 s as if it were exactly
    that; ``flare_`` is that form, the other one is right by the timestamps.

    Attributes:
        cpu_cores: processor time over wall time.
        cpu_pct_s, flare_cpu_pct_s: CPU use integrated; 100 is one core for a second.
        memory_mb_s, flare_memory_mb_s: resident memory of the worker integrated, in 2^20 bytes.
        gpu_memory_mb_s: device memory of the process right after the case, times the seconds of the case, since a
            runtime holds its memory from case to case. `flare22_gpu_memory_mb_s`: likewise, of what exceeds 2,048 MB.
        cpu_energy_j: of the processor's packages, whoever used them; `gpu_energy_j`: of the whole board.
        break_even_cases: whole cases after which the build has paid off: its seconds over the median seconds that a
            case saves against the baseline. None where it was not measured, for the baseline, and if `never_pays_off`.
        never_pays_off: the variant saves no time.
    """

    cpu_cores: float = nan
    cpu_pct_s: float = nan
    flare_cpu_pct_s: float = nan
    memory_mb_s: float = nan
    flare_memory_mb_s: float = nan
    gpu_memory_mb_s: float = nan
    flare22_gpu_memory_mb_s: float = nan
    cpu_energy_j: float = nan
    gpu_energy_j: float = nan
    break_even_cases: int | None = None
    never_pays_off: bool = False


def resources(variant: VariantRecord, samples: Sequence[Sample], baseline: VariantRecord) -> Resources:
    """Sum up `samples` of `variant`, whose time is held against the `baseline`'s samples of the same positions."""
    positions = {_position(sample) for sample in samples}
    baseline_samples = [sample for sample in baseline.samples if _position(sample) in positions]
    saved = median([s.case_ns / 1e9 for s in baseline_samples]) - median([s.case_ns / 1e9 for s in samples])
    is_candidate = variant.name != baseline.name
    pays = is_candidate and variant.build_s is not None and saved > 0
    return Resources(
        cpu_cores=_median_of(samples, lambda s: s.cpu_ns / s.case_ns if s.case_ns else None),
        cpu_pct_s=_median_of(samples, lambda s: 100 * s.cpu_ns / 1e9),
        flare_cpu_pct_s=_median_of(samples, lambda s: s.usage.flare_cpu_pct_s if s.usage else None),
        memory_mb_s=_median_of(samples, _memory_mb_s),
        flare_memory_mb_s=_median_of(samples, lambda s: s.usage.flare_memory_mb_s if s.usage else None),
        gpu_memory_mb_s=_median_of(samples, _gpu_memory_mb_s),
        flare22_gpu_memory_mb_s=_median_of(samples, lambda s: _gpu_memory_mb_s(s, FLARE22_FREE_MB)),
        cpu_energy_j=_median_of(samples, lambda s: s.usage.cpu_energy_j if s.usage else None),
        gpu_energy_j=energy_j(samples),
        break_even_cases=ceil((variant.build_s or 0.0) / saved) if pays else None,
        never_pays_off=is_candidate and saved <= 0,
    )


def _memory_mb_s(sample: Sample) -> float | None:
    usage = sample.usage
    return usage.memory_byte_s / _MB if usage is not None and usage.memory_byte_s is not None else None


def _gpu_memory_mb_s(sample: Sample, free_mb: int = 0) -> float | None:
    if sample.gpu is None or sample.gpu.process_memory_bytes is None:
        return None
    return max(0.0, sample.gpu.process_memory_bytes / _MB - free_mb) * sample.case_ns / 1e9


def _median_of(samples: Iterable[Sample], of: Callable[[Sample], float | None]) -> float:
    values = (of(sample) for sample in samples)
    return median([value for value in values if value is not None])


def _position(sample: Sample) -> tuple[str, int, int, str]:
    return sample.phase, sample.launch, sample.round, sample.case
