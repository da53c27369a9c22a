"""The report's resources: processor, memory, energy and building, the device's peak, and the state of the GPU."""

from math import isfinite

from reports import formatting
from reports.analysis.resources import FLARE22_FREE_MB
from reports.formatting import NOT_MEASURED
from reports.render.commonmark import section, table, text
from reports.summary.summary import Row, Summary


def resources_section(summary: Summary) -> str:
    """The section of the report over the variants that ran; empty without any."""
    measured = [row for row in summary.measured if row.case.cases]
    if not measured:
        return ""
    on_gpu = any(row.gpu is not None for row in measured)
    head = ["variant", "CPU use", "CPU, % s (FLARE)", "peak memory", "memory, MB s (FLARE)", "CPU energy", "build",
            "pays off after"]  # fmt: skip
    if on_gpu:
        head += ["GPU energy", "GPU memory, MB s (FLARE22)"]
    note = (
        "Medians a case. *CPU use*: processor time over wall time, in cores. *% s* and *MB s*: CPU use (100 is one "
        "core) and resident memory integrated over the case; in brackets FLARE's form, which takes every sample for "
        "0.1 s. Energy is that of the whole processor or board, whoever used it. A build pays off after as many cases "
        "as its seconds hold of what a case saves."
    )
    if on_gpu:
        note += " GPU memory is the reading after the case times its seconds; FLARE22 counts what exceeds "
        note += f"{FLARE22_FREE_MB:,} MB."
    if any(row.build_cached for row in measured):
        note += " *Cached*: the engine came from the cache, so that a first build takes longer and pays off later."
    if any(row.built_beside for row in measured):
        note += " *Beside others*: while others were built too, so that a build alone takes less."
    return section("Resources", table(head, [_resources_row(row, on_gpu) for row in measured]), note)


def _resources_row(row: Row, on_gpu: bool) -> list[str]:
    use = row.resources
    cells = [
        text(row.label),
        _quantity_cell(use.cpu_cores, "cores"),
        _integral_cell(use.cpu_pct_s, use.flare_cpu_pct_s),
        formatting.mebibytes(row.peak_memory_bytes),
        _integral_cell(use.memory_mb_s, use.flare_memory_mb_s),
        _quantity_cell(use.cpu_energy_j, "J"),
        formatting.seconds(row.build_s) + row.of_build,
        _break_even_cell(row) + (row.of_build if use.break_even_cases is not None else ""),
    ]
    if on_gpu:
        cells.append(_quantity_cell(use.gpu_energy_j, "J"))
        cells.append(_integral_cell(use.gpu_memory_mb_s, use.flare22_gpu_memory_mb_s))
    return cells


def _break_even_cell(row: Row) -> str:
    resources = row.resources
    if row.is_baseline:
        return "reference"
    if resources.never_pays_off:
        return "never"
    if resources.break_even_cases is None:
        return NOT_MEASURED
    shown = "" if row.case.reduction.low > 0 else ", if it is faster"  # the bounds of the time reduction hold 0
    return formatting.count(resources.break_even_cases, "case") + shown


def _quantity_cell(value: float, unit: str) -> str:
    return f"{formatting.significant(value)} {unit}" if isfinite(value) else NOT_MEASURED


def _integral_cell(value: float, flare: float) -> str:
    if not isfinite(value) and not isfinite(flare):
        return NOT_MEASURED
    return f"{formatting.significant(value)} ({formatting.significant(flare)})"


def roofline_section(summary: Summary) -> str:
    """The forward beside the device's measured peaks; empty without any."""
    peak, bandwidth = summary.record.peak_flops, summary.record.peak_bytes_per_s
    if not peak:
        return ""
    head = ["variant", "arithmetic", "memory traffic", "forward, median", "share of the peak", "reached"]
    rows = [
        [
            text(row.label), formatting.seconds(row.roofline.arithmetic_s), formatting.seconds(row.roofline.traffic_s),
            formatting.seconds(row.forward_latency.median),
            formatting.percent(100 * row.roofline.share), formatting.rate(row.roofline.flops),
        ]
        for row in summary.measured if row.case.cases
    ]  # fmt: skip
    whose = summary.record.peak_libraries
    measured = ", ".join(
        f"{name} {formatting.rate(rate)} ({whose.get(name, 'PyTorch')})" for name, rate in peak.items()
    )
    note = (
        "*Arithmetic* is the time that the multiply-accumulates of a case take at the device's peak in the precisions "
        f"they ran in, that of the fastest large matrix product, measured before the rounds: {measured}. *Memory "
        "traffic* is the time to move each layer's input and output once a tile, and the weights once, in the "
        "narrowest precision that ran, at the bandwidth of a large copy: "
        f"{formatting.bandwidth(bandwidth)}. The longer "
        "of the two is the floor of the case, and the share is that floor over the forward. A library with better "
        "kernels than that product's, or one that keeps layers' outputs in the cache, may pass 100 %."
    )
    return section("Roofline", table(head, rows), note) if rows else ""


def gpu_section(summary: Summary) -> str:
    uses = [(row, row.gpu) for row in summary.measured if row.gpu is not None]
    if not uses:
        return ""
    head = ["variant", "SM clock, MHz", "hottest", "power", "energy a case", "throttled", "of device events"]
    rows = [
        [
            text(row.name), f"{use.sm_mhz:.0f} ({use.sm_mhz_low:.0f} to {use.sm_mhz_high:.0f})",
            f"{use.temperature_c:.0f} °C",
            f"{use.power_w:.0f} W" if isfinite(use.power_w) else NOT_MEASURED,
            f"{use.energy_j:.3g} J" if isfinite(use.energy_j) else NOT_MEASURED,
            formatting.share(use.throttled), formatting.percent(100 * row.device_share),
        ]
        for row, use in uses
    ]  # fmt: skip
    note = (
        "Read by NVML after each case, outside its time: median clock with its range, highest temperature, median "
        "power and energy of the whole board (not measured of cases under a second: NVML's power is a mean over the "
        "last second, and its counter of energy moves in steps), "
        "share of the samples with a reason for lower clocks. *Of device events*: the forward by device events over "
        "that by the host's clock."
    )
    return section("The GPU during the run", table(head, rows), note)
