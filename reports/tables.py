"""The report's measurements: requirements, backends, stages, parity, confirmation."""

from collections.abc import Iterable
from math import isfinite, nan

from reports import figures
from reports.commonmark import bullets, section, table, text, words
from reports.comparison import Metric, Speed
from reports.figures import NOT_APPLICABLE, NOT_MEASURED, count
from reports.latency import FEWEST_SIZES, TileFit
from reports.power import ENOUGH_FOR_F1, LOST_SHARE
from reports.record import FAILED, OK, SKIPPED, STAGES
from reports.recorded import recorded
from reports.summary import Row, Summary, Target
from reports.verdict import CONFIRMED, KEPT, LOST, METRICS, UNDECIDED, judge_accuracy

_STATUS = {True: "met", False: "**not met**", None: "not shown"}


def sections(summary: Summary) -> list[str]:
    """Everything that was measured, the most important first."""
    return [
        _requirements(summary),
        _backends(summary),
        _confirmation(summary),
        _parity(summary),
        _detectable(summary),
        _latency(summary),
        _stages(summary),
        _course(summary),
        _limits(summary),
        _gpu(summary),
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
        cells = [f">= {found.target:.2f}", figures.score(found.baseline), figures.score(found.best)]
        return [METRICS[found.name], *cells, _STATUS[found.met] if isfinite(found.best) else NOT_MEASURED]
    best = figures.bounded(found.best, found.low, found.high)
    status = _STATUS[found.met] if isfinite(found.best) else NOT_MEASURED
    return ["time reduction of a case", f">= {figures.plain_percent(found.target)}", "0 %, the reference", best, status]


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


def _ordered(summary: Summary) -> list[Row]:
    """The backends that ran: the baseline, then the fastest first."""
    rows = [row for row in summary.rows if row.status == OK]
    return sorted(rows, key=lambda row: (not row.is_baseline, -_sortable(row.case.speedup.estimate)))


def _sortable(value: float) -> float:
    return value if isfinite(value) else -1.0


def _backends(summary: Summary) -> str:
    rows = _ordered(summary)
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
    build = figures.seconds(row.build_s) + (" (cached)" if row.build_cached else "")
    return [
        text(row.name), "baseline" if row.is_baseline else row.verdict or NOT_MEASURED,
        "reference" if row.is_baseline else figures.bounded(r.estimate, r.low, r.high),
        figures.seconds(row.latency.median), figures.seconds(row.latency.p95),
        figures.seconds(row.forward_latency.median),
        "reference" if row.is_baseline else figures.factor(row.forward.speedup.estimate),
        build, figures.mebibytes(row.peak_memory_bytes), _evidence(row),
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
    bounds = figures.bounded(r.estimate, r.low, r.high)
    return [name, bounds, figures.factor(found.speedup.estimate), str(found.cases), str(found.pairs)]


def _parity(summary: Summary) -> str:
    rows = [row for row in _ordered(summary) if row.parity.cases]
    metrics = _taken(rows)
    head = ["backend", *(f"{METRICS[name]}: value, delta [low]" for name in metrics), "class flips", "voxels changed"]
    applicable = [name for row in rows[:1] for name in metrics if getattr(row.parity, name).applicable]
    margins = ", ".join(f"{METRICS[name]} {summary.claim.margin(name):g}" for name in applicable)
    note = (
        "The value is the mean over cases against the ground truth (macro-F1: over classes); delta is the paired "
        "difference to the baseline, [low] its lower bound with one-sided 95 % confidence, which must not lie below "
        f"minus the margin ({margins}). Flips and changed voxels count against the baseline's own output."
    )
    body = table(head, [_accuracy(row, metrics) for row in rows]) if rows else ""
    return section("Accuracy", body, note if rows else "", *_flips(rows), _noise(summary) if rows else "")


def _taken(rows: list[Row]) -> list[str]:
    """The metrics that the run's scores hold; surface distances are missing in older runs."""
    return [name for name in METRICS if all(getattr(row.parity, name).taken for row in rows)]


def _accuracy(row: Row, names: Iterable[str]) -> list[str]:
    metrics: Iterable[Metric] = (getattr(row.parity, name) for name in names)
    flips = "reference" if row.is_baseline else f"{len(row.parity.flipped)} of {row.parity.cases}"
    if not row.parity.macro_f1.applicable:
        flips = NOT_APPLICABLE
    changed = "reference" if row.is_baseline else figures.share(row.parity.voxel_disagreement)
    return [text(row.name), *(_metric(found, row.is_baseline) for found in metrics), flips, changed]


def _flips(rows: list[Row]) -> tuple[str, str]:
    flips = [
        [text(row.name), text(flip.case), *map(_class, (flip.truth, flip.baseline, flip.candidate))]
        for row in rows
        for flip in row.parity.flips
    ]
    told = [(row.name, row.parity.mcnemar) for row in rows if row.parity.flips and isfinite(row.parity.mcnemar.p)]
    tests = bullets(
        f"{text(name)}: {count(found.lost, 'case')} right by the baseline alone, {found.gained} by {text(name)} alone "
        f"(McNemar's exact test, p = {found.p:.2g})."
        for name, found in told
    )
    return words(["backend", "flipped case", "truth", "baseline", "backend's class"], flips) if flips else "", tests


def _class(subtype: int | None) -> str:
    return "unknown" if subtype is None else str(subtype)


def _detectable(summary: Summary) -> str:
    rows = [row for row in _ordered(summary) if row.parity.cases and not row.is_baseline]
    names = [name for name in _taken(rows) if any(isfinite(getattr(row.parity, name).detectable) for row in rows)]
    if not names:
        return ""
    head = ["backend", "cases", *(f"{METRICS[n]}{', share of cases' * (n == 'macro_f1')}" for n in names)]
    cells = [
        [text(row.name), str(row.parity.cases), *(_loss(name, getattr(row.parity, name)) for name in names)]
        for row in rows
    ]
    margins = ", ".join(f"{METRICS[name]} {summary.claim.margin(name):g}" for name in names)
    note = (
        "The smallest loss that so many cases would have shown with a power of 80 %: of a mean score by the spread of "
        "its paired differences, of macro-F1 as the share of cases whose class is lost. A loss below it may be there "
        "unseen. *No spread*: all cases differ from the baseline by the same, most often by nothing. "
        f"The margins are {margins}. A macro-F1 counts as kept from {ENOUGH_FOR_F1} cases, which show a share "
        f"of {figures.plain_percent(100 * LOST_SHARE)}."
    )
    return section("What these cases could have detected", table(head, cells), note)


def _loss(name: str, found: Metric) -> str:
    if not found.applicable:
        return NOT_APPLICABLE
    if not isfinite(found.detectable):
        return NOT_MEASURED
    if name == "macro_f1":
        return figures.percent(100 * found.detectable)
    if not found.detectable:
        return "no spread"
    return f"{found.detectable:.4f}" if found.detectable >= 5e-5 else f"{found.detectable:.0e}"


def _metric(found: Metric, is_baseline: bool) -> str:
    if not found.applicable:
        return NOT_APPLICABLE
    if not found.cases:
        return NOT_MEASURED
    if is_baseline:
        return figures.score(found.value)
    low = f" [{figures.change(found.delta.low)}]" if isfinite(found.delta.low) else ""
    return f"{figures.score(found.value)}, {figures.change(found.delta.estimate)}{low}"


def _noise(summary: Summary) -> str:
    voxels = summary.noise.get("voxels", 0)
    if not voxels:
        return "Noise floor (the baseline against itself): not measured."
    changed = figures.share(summary.noise.get("differing_voxels", 0) / voxels)
    flips = f"class flips {NOT_APPLICABLE}"
    if summary.record.classifies:
        flips = count(summary.noise.get("class_flips", 0), "class flip")
    return f"Noise floor (the baseline against its own repetition): {changed} of the voxels changed, {flips}."


def _latency(summary: Summary) -> str:
    rows = [row for row in _ordered(summary) if row.case.cases]
    if not rows:
        return ""
    head = ["backend", "p50", "p90", "p95", "p99", "fastest to slowest case", "variation", "without tiles", "each tile",
            "r²"]  # fmt: skip
    cells = [
        [
            text(row.name), *(figures.seconds(getattr(row.latency, name)) for name in ("median", "p90", "p95", "p99")),
            f"{figures.seconds(row.spread.fastest_s)} to {figures.seconds(row.spread.slowest_s)}",
            figures.percent(100 * row.spread.variation), *_fit(row.tile_fit),
        ]
        for row in rows
    ]  # fmt: skip
    note = (
        "Percentiles of the case time over all samples; the cases' own medians from the fastest to the slowest with "
        "their coefficient of variation; and a straight line through these medians over the number of tiles: what a "
        f"case takes without any, and each tile. It needs cases of at least {FEWEST_SIZES} different numbers of tiles."
    )
    return section("Case times", table(head, cells), note)


def _fit(found: TileFit) -> list[str]:
    if found.sizes < FEWEST_SIZES:
        return ["not fitted"] * 3
    return [figures.seconds(found.intercept_s), figures.seconds(found.slope_s), f"{found.r2:.3f}"]


def _course(summary: Summary) -> str:
    found = summary.course
    lines = []
    if found.drift:
        lines.append(
            f"Drift of the baseline: {found.drift.pct_per_hour:+.2g} % an hour, {found.drift.pct_over_run:+.2g} % over "
            f"the duels (p = {found.drift.p:.2g})."
        )
    if found.order:
        name, effect = min(found.order.items(), key=lambda item: item[1].p_holm)
        lines.append(
            f"Position within a round: the clearest of {count(len(found.order), 'backend')} is {text(name)}, "
            f"{figures.percent(effect.range_pct)} between its {effect.positions} positions (p = {effect.p_holm:.2g} by "
            "Kruskal and Wallis, adjusted by Holm)."
        )
    if found.autocorrelation:
        name, lag = max(found.autocorrelation.items(), key=lambda item: abs(item[1].lag1))
        lines.append(
            f"Autocorrelation of the log ratios from sample to sample: at most {lag.lag1:+.2f} ({text(name)}; standard "
            f"error {lag.standard_error:.2f})."
        )
    return section("Course of the duels", bullets(lines)) if lines else ""


def _stages(summary: Summary) -> str:
    rows = [row for row in _ordered(summary) if row.case.cases]
    head = ["backend", *(f"{stage}, ms (share)" for stage in STAGES), "other"]
    note = "Median milliseconds a case in each stage, and its share of all the case time; the rest is other."
    return section("Where the time goes", table(head, [_stage(row) for row in rows]), note) if rows else ""


def _stage(row: Row) -> list[str]:
    cells = [_stage_cell(row.stages_s.get(stage, nan), row.stages_share.get(stage, nan)) for stage in STAGES]
    other = 1 - sum(share for share in row.stages_share.values() if isfinite(share))
    return [text(row.name), *cells, f"{100 * other:.1f} %"]


def _stage_cell(duration: float, share: float) -> str:
    return f"{figures.milliseconds(duration)} ({100 * share:.1f} %)" if isfinite(duration) else NOT_MEASURED


def _limits(summary: Summary) -> str:
    peak = summary.record.peak_flops
    if not peak:
        return ""
    head = ["backend", "floor of a case", "forward, median", "share of the peak", "reached"]
    rows = [
        [
            text(row.name), figures.seconds(row.limit.floor_s), figures.seconds(row.forward_latency.median),
            figures.percent(100 * row.limit.share), figures.rate(row.limit.flops),
        ]
        for row in _ordered(summary) if row.case.cases
    ]  # fmt: skip
    measured = ", ".join(f"{name} {figures.rate(flops)}" for name, flops in peak.items())
    note = (
        "The floor is the time that the multiply-accumulates of a case take at the device's peak in the precisions "
        f"they ran in. The peak is that of a large matrix product by PyTorch, measured before the duels: {measured}. "
        "Memory traffic may set a higher floor; a library with better kernels than PyTorch's product may pass 100 %."
    )
    return section("Limits of the device", table(head, rows), note) if rows else ""


def _gpu(summary: Summary) -> str:
    uses = [(row, row.gpu) for row in _ordered(summary) if row.gpu is not None]
    if not uses:
        return ""
    head = ["backend", "SM clock, MHz", "hottest", "power", "energy a case", "throttled", "of device events"]
    rows = [
        [
            text(row.name), f"{use.sm_mhz:.0f} ({use.sm_mhz_low:.0f} to {use.sm_mhz_high:.0f})",
            f"{use.temperature_c:.0f} °C", f"{use.power_w:.0f} W",
            f"{use.energy_j:.3g} J" if isfinite(use.energy_j) else NOT_MEASURED,
            figures.share(use.throttled), figures.percent(100 * row.device_share),
        ]
        for row, use in uses
    ]  # fmt: skip
    note = (
        "Read by NVML after each case, outside its time: median clock with its range, highest temperature, median "
        "power and energy of the whole board, share of the samples with a reason for lower clocks. *Of device events*: "
        "the forward by device events over that by the host's clock."
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
