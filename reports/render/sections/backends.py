"""The report's measurements: requirements, backends, stages, parity, confirmation."""

from math import isfinite

from reports import formatting
from reports.analysis.interference import surroundings
from reports.analysis.pareto import recipes_section
from reports.analysis.peers import peers_section
from reports.analysis.resources import resources_section
from reports.analysis.roi import roi_section
from reports.decision.comparison import Speed
from reports.decision.verdict import CONFIRMED, KEPT, LOST, METRICS, UNDECIDED, judge_accuracy
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, count
from reports.records.record import FAILED, SKIPPED
from reports.render.commonmark import bullets, section, table, text, words
from reports.render.sections import accuracy, times
from reports.render.sections.training_metrics import recorded
from reports.summary import Row, Summary, Target

_STATUS = {True: "met", False: "**not met**", None: "not shown"}


def sections(summary: Summary) -> list[str]:
    """Everything that was measured, the most important first."""
    return [
        _requirements(summary),
        _backends(summary),
        _confirmation(summary),
        recipes_section(summary),
        peers_section(summary),
        accuracy.parity(summary),
        accuracy.detectable(summary),
        roi_section(summary),
        times.latency(summary),
        times.stages(summary),
        times.course(summary),
        resources_section(summary.measured),
        _limits(summary),
        _gpu(summary),
        surroundings(summary.ambient, summary.verdict),
        recorded(summary),
        _absent(summary, SKIPPED, "Skipped backends", "what enables it"),
        _absent(summary, FAILED, "Failed backends", "what would mend it"),
    ]


def _requirements(summary: Summary) -> str:
    subject = summary.subject or "best backend"
    head = ["requirement", "target", summary.record.baseline, subject, "status"]
    rows = [*map(_requirement, summary.targets), _kept(summary)]
    return section("Requirements", _where(summary), table(head, rows, (0, 4)))


def _requirement(found: Target) -> list[str]:
    if not found.applicable:
        return [METRICS[found.name], f">= {found.target:.2f}", *[NOT_APPLICABLE] * 3]
    if found.name in METRICS:
        cells = [f">= {found.target:.2f}", formatting.score(found.baseline), formatting.score(found.best)]
        return [METRICS[found.name], *cells, _STATUS[found.met] if isfinite(found.best) else NOT_MEASURED]
    best = formatting.bounded(found.best, found.low, found.high)
    status = _STATUS[found.met] if isfinite(found.best) else NOT_MEASURED
    return [
        "time reduction of a case",
        f">= {formatting.plain_percent(found.target)}",
        "0 %, the reference",
        best,
        status,
    ]


def _kept(summary: Summary) -> list[str]:
    """The accuracy against the baseline's, which a score far above its target may still have lost."""
    row = summary.row(summary.subject)
    state = judge_accuracy(row.parity, summary.claim)[0] if row and row.parity.cases else NOT_MEASURED
    status = {KEPT: _STATUS[True], LOST: _STATUS[False], UNDECIDED: _STATUS[None]}.get(state, NOT_MEASURED)
    return ["accuracy beside the baseline", "within margins", "the reference", state, status]


def _where(summary: Summary) -> str:
    record = summary.record
    said = f"Measured on {count(summary.cases, 'case')} of these data, on {record.host.get('gpu', 'the CPU')}."
    if record.data.get("demo"):
        said += " **The data are the made-up volumes of the demo**: they show what an engine does to time "
        said += "and accuracy, and nothing about patients."
    if record.checkpoint.get("demo"):
        said += " The network is the demo's own, trained on such volumes."
    return said + " The targets are those set for the reference model; a score is held against its target by its mean."


def _backends(summary: Summary) -> str:
    rows = [row for row in summary.measured if not row.is_peer]
    if not rows:
        return section("Backends", "No backend ran.")
    head = ["backend", "verdict", "case time reduction", "case median", "case p95", "forward median",
            "forward speedup", "build", "peak memory", "evidence"]  # fmt: skip
    note = (
        f"Duels: {count(summary.rounds, 'round')} over {count(summary.cases, 'case')}, every sample paired with the "
        "baseline's of the same round and case. *Case*: from the file on disk to mask and class on disk; *forward*: "
        "the engine alone. Brackets hold the lower and the upper bound, each with one-sided 95 % confidence. A row's "
        f"verdict is that of its duels{_judged(rows)}."
    )
    doubted = [row for row in rows if row.verdict not in (None, CONFIRMED)]
    why = bullets(f"{text(row.name)} is {row.verdict}: {text(_ground(row))}" for row in doubted)
    partial = [text(row.name) for row in rows if row.partial]
    short = f"Measured only in part: {', '.join(partial)}." if partial else ""
    return section("Backends", table(head, [_backend(row) for row in rows], (0, 1, 9)), note, why, short)


def _judged(rows: list[Row]) -> str:
    """How the rows' speeds were judged together."""
    look = next((row.test.look for row in rows if row.test), None)
    if look is None:
        return ""
    holm = f", by Holm's test over {look.claims} backends" if look.claims > 1 else ""
    return holm + (f" at look {look.number} (level {look.alpha:.2g})" if look.number else "")


def _ground(row: Row) -> str:
    """What decided the verdict: the first reason, and the loss of accuracy where it comes second."""
    return "; ".join((row.reasons[0], *(reason for reason in row.reasons[1:] if reason.startswith(f"accuracy {LOST}"))))


def _backend(row: Row) -> list[str]:
    r = row.case.reduction
    build = formatting.seconds(row.build_s) + (" (cached)" if row.build_cached else "")
    return [
        text(row.name), "baseline" if row.is_baseline else row.verdict or NOT_MEASURED,
        "reference" if row.is_baseline else formatting.bounded(r.estimate, r.low, r.high),
        formatting.seconds(row.latency.median), formatting.seconds(row.latency.p95),
        formatting.seconds(row.forward_latency.median),
        "reference" if row.is_baseline else formatting.factor(row.forward.speedup.estimate),
        build, formatting.mebibytes(row.peak_memory_bytes), _evidence(row),
    ]  # fmt: skip


def _evidence(row: Row) -> str:
    provider = row.evidence.get("provider")
    shares = row.evidence.get("mac_share") or {}
    parts = [f"{name} {100 * part:.3g} %" for name, part in sorted(shares.items(), key=lambda s: -s[1]) if part > 0]
    macs = f"{', '.join(parts)} of MACs" if parts else ""
    return text("; ".join(part for part in (str(provider or ""), macs) if part)) or NOT_MEASURED


def _confirmation(summary: Summary) -> str:
    found, row = summary.confirmation, summary.row(summary.subject)
    if summary.subject is None or row is None:
        return ""
    if found is None:
        return section("Confirmation", f"{text(summary.subject)} has no confirmation on fresh samples.")
    lines = [
        f"{text(summary.subject)} was chosen by the duels and then timed again beside the baseline, so that its figure "
        "is free of the luck that helped to choose it. The verdict rests on these samples alone."
    ]
    head = ["", "case time reduction", "speedup", "cases", "paired samples"]
    rows = [_phase("duels (chosen by these)", row.case), _phase("confirmation (verdict)", found)]
    return section("Confirmation", *lines, table(head, rows))


def _phase(name: str, found: Speed) -> list[str]:
    r = found.reduction
    bounds = formatting.bounded(r.estimate, r.low, r.high)
    return [name, bounds, formatting.factor(found.speedup.estimate), str(found.cases), str(found.pairs)]


def _limits(summary: Summary) -> str:
    peak, bandwidth = summary.record.peak_flops, summary.record.peak_bytes_per_s
    if not peak:
        return ""
    head = ["backend", "arithmetic", "memory traffic", "forward, median", "share of the peak", "reached"]
    rows = [
        [
            text(row.name), formatting.seconds(row.limit.arithmetic_s), formatting.seconds(row.limit.traffic_s),
            formatting.seconds(row.forward_latency.median),
            formatting.percent(100 * row.limit.share), formatting.rate(row.limit.flops),
        ]
        for row in summary.measured if row.case.cases
    ]  # fmt: skip
    whose = summary.record.peak_libraries
    measured = ", ".join(
        f"{name} {formatting.rate(rate)} ({whose.get(name, 'PyTorch')})" for name, rate in peak.items()
    )
    note = (
        "*Arithmetic* is the time that the multiply-accumulates of a case take at the device's peak in the precisions "
        f"they ran in, that of the fastest large matrix product, measured before the duels: {measured}. *Memory "
        "traffic* is the time to move each layer's input and output once a tile, and the weights once, in the "
        "narrowest precision that ran, at the bandwidth of a large copy: "
        f"{formatting.bandwidth(bandwidth)}. The longer "
        "of the two is the floor of the case, and the share is that floor over the forward. A library with better "
        "kernels than that product's, or one that keeps layers' outputs in the cache, may pass 100 %."
    )
    return section("Limits of the device", table(head, rows), note) if rows else ""


def _gpu(summary: Summary) -> str:
    uses = [(row, row.gpu) for row in summary.measured if row.gpu is not None]
    if not uses:
        return ""
    head = ["backend", "SM clock, MHz", "hottest", "power", "energy a case", "throttled", "of device events"]
    rows = [
        [
            text(row.name), f"{use.sm_mhz:.0f} ({use.sm_mhz_low:.0f} to {use.sm_mhz_high:.0f})",
            f"{use.temperature_c:.0f} °C", f"{use.power_w:.0f} W",
            f"{use.energy_j:.3g} J" if isfinite(use.energy_j) else NOT_MEASURED,
            formatting.share(use.throttled), formatting.percent(100 * row.device_share),
        ]
        for row, use in uses
    ]  # fmt: skip
    note = (
        "Read by NVML after each case, outside its time: median clock with its range, highest temperature, median "
        "power and energy of the whole board (not measured of cases under a second: its counter moves in steps), "
        "share of the samples with a reason for lower clocks. *Of device events*: the forward by device events over "
        "that by the host's clock."
    )
    return section("The GPU during the run", table(head, rows), note)


def _absent(summary: Summary, status: str, title: str, remedy: str) -> str:
    rows = [row for row in summary.rows if row.status == status]
    if not rows:
        return ""
    logs = any(row.log for row in rows)
    head = ["backend", "reason", remedy, *(["log"] if logs else [])]
    return section(title, words(head, [_absence(row, logs) for row in rows]))


def _absence(row: Row, logs: bool) -> list[str]:
    cells = [text(row.name), text(row.reason or "no reason recorded"), text(row.fix or "not known")]
    return [*cells, text(row.log or "none")] if logs else cells
