"""A run as rows: everything a report says, derived from the records once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any

from reports.analysis import interference
from reports.analysis.diagnostics import Course, course
from reports.analysis.gpu import GpuUse, gpu_use
from reports.analysis.latency import Latency, Spread, TileFit, latency, spread, tile_fit
from reports.analysis.peers import PeerTime, peer_times
from reports.analysis.resources import Resources, resources
from reports.analysis.roi import RoiUse, roi_use
from reports.analysis.roofline import Limit, limit
from reports.analysis.run_warnings import doubts
from reports.decision.comparison import Comparison, Metric, Parity, Speed, compare, pairs, parity
from reports.decision.outcome import Candidate, Outcome, decide, judge_candidates
from reports.decision.verdict import CONFIRMED, METRICS, REFUTED, Claim, SpeedVerdict
from reports.records.record import DUEL, FAILED, OK, PENDING, SKIPPED, STAGES, BackendRecord, RunRecord, Sample
from reports.records.store import Run
from reports.stats.bootstrap import Interval
from reports.stats.scores import median

TARGETS = {"whole_dsc": 0.91, "lesion_dsc": 0.31, "macro_f1": 0.70}  # set for the reference model


@dataclass(frozen=True)
class Row:
    """One backend. Figures of time come from the duels; they are NaN where nothing was measured.

    Attributes:
        status: ``ok``, ``skipped`` or ``failed``; `partial`: the run ended before this backend's last sample.
        verdict, reasons: None and empty for the baseline and for what did not run.
        test: the verdict on the duels' case time alone, with its p-value; None as the verdict is.
        latency, forward_latency: of the case, and of the engine alone in it.
        spread, tile_fit: how the case time differs between cases, and grows with their tiles.
        case, forward: the time against the baseline's, in both scopes.
        stages_s, stages_share: median seconds of each stage, and its share of all the time.
        margins: how far each score may fall under the claim.
        limit: the forward beside the device's measured peak.
        device_share: the forward by device events over that by the host's clock, in the median; NaN on a CPU.
        gpu: readings of the GPU; None on a CPU or without NVML.
        resources: what a case took beside time, and when the build has paid off.
        is_peer: what is run elsewhere, there to be compared with; its verdict is None as the baseline's is.
        roi: what a ROI strategy cost and lost; None without one.
    """

    name: str
    status: str
    reason: str | None
    fix: str | None
    log: str | None
    partial: bool
    is_baseline: bool
    verdict: str | None
    reasons: tuple[str, ...]
    test: SpeedVerdict | None
    latency: Latency
    forward_latency: Latency
    spread: Spread
    tile_fit: TileFit
    case: Speed
    forward: Speed
    build_s: float | None
    build_cached: bool
    peak_memory_bytes: int | None
    stages_s: Mapping[str, float]
    stages_share: Mapping[str, float]
    parity: Parity
    margins: Mapping[str, float]
    evidence: Mapping[str, Any]
    limit: Limit
    device_share: float
    gpu: GpuUse | None
    resources: Resources
    roi: RoiUse | None = None
    is_peer: bool = False


@dataclass(frozen=True)
class Target:
    """A requirement. Scores meet theirs by their mean, the time by its lower bound.

    `met` is None where it could not be measured, is undecided, or is not applicable to the network; only the time has
    bounds.
    """

    name: str
    target: float
    baseline: float
    best: float
    met: bool | None
    low: float = nan
    high: float = nan
    applicable: bool = True


@dataclass(frozen=True)
class Summary:
    """What a run shows under a claim; the renderers take it from here.

    Attributes:
        best: the fastest backend whose accuracy is not lost; `subject`: the one the verdict is about.
        cases, rounds: timed cases, and how often each was timed in the duels.
        confirmation: the subject's case time on fresh samples.
        noise: how often the baseline disagrees with itself: ``voxels``, ``differing_voxels`` and, with a
            classification, ``class_flips``.
        missing_required: required backends that were skipped, failed or not part of the run.
        doubts: what speaks against taking the figures at their word.
        ambient: how much of the run was disturbed, and the verdict without that.
        course: order effects, drift and autocorrelation in the duels.
        peers: the subject's case time against each peer's.
    """

    verdict: str
    headline: str
    reasons: tuple[str, ...]
    claim: Claim
    best: str | None
    subject: str | None
    confirmation: Speed | None
    cases: int
    rounds: int
    rows: tuple[Row, ...]
    targets: tuple[Target, ...]
    noise: Mapping[str, int]
    missing_required: tuple[str, ...]
    doubts: tuple[str, ...]
    ambient: interference.Disturbance
    course: Course
    peers: tuple[PeerTime, ...]
    record: RunRecord = field(repr=False)

    def row(self, name: str | None) -> Row | None:
        """The row of a backend, if the run has it."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def measured(self) -> list[Row]:
        """The backends that ran: the baseline, then the fastest first."""

        def place(row: Row) -> tuple[bool, float]:
            speedup = row.case.speedup.estimate
            return not row.is_baseline, -speedup if isfinite(speedup) else 1.0

        return sorted((row for row in self.rows if row.status == OK), key=place)

    def to_json(self) -> dict[str, Any]:
        """The summary as documented in the contract of ``bench report --format json``."""
        from reports.render.summary_json import summary_json  # which needs this module

        return summary_json(self)


def summarise(run: Run, claim: Claim | None = None) -> Summary:
    """Derive all figures and the verdict from a run's records; `claim` defaults to the one it was started with.

    Raises:
        RecordError: the claim names a backend that the run does not have, or the baseline.
    """
    record = run.record
    claim = claim or Claim.of(record.settings)
    judged = judge_candidates(run, claim)
    outcome = decide(run, claim, judged)
    rows = tuple(_row(run, backend, judged, claim) for backend in run.backends)
    baseline, found = run.backend(record.baseline), course(run)
    ambient = interference.disturbance(run, claim)
    duels = Counter(sample.case for sample in baseline.samples if sample.phase == DUEL)
    return Summary(
        outcome.verdict, outcome.headline, outcome.reasons, claim, outcome.best, outcome.subject, outcome.confirmation,
        len(duels), max(duels.values(), default=0), rows, _targets(rows, outcome, claim), baseline.noise, _missing(run),
        (*doubts(rows, found), *interference.doubts(ambient, outcome.verdict)), ambient, found,
        peer_times(run, outcome.subject), record,
    )  # fmt: skip


def _row(run: Run, backend: BackendRecord, judged: Mapping[str, Candidate], claim: Claim) -> Row:
    is_baseline = backend.name == run.record.baseline
    samples = _timed(run, backend, is_baseline)
    candidate = judged.get(backend.name) if samples else None
    is_peer = backend.name in run.record.peers
    comparison = candidate.comparison if candidate else compare(run, backend.name) if is_peer and samples else None
    status, reason, fix = _status(backend, bool(samples))
    itself = Speed(len({s.case for s in samples}), len(samples), Interval(1.0, 1.0, 1.0)) if samples else Speed()
    stages = {stage: [s.stages_ns[stage] / 1e9 for s in samples if stage in s.stages_ns] for stage in STAGES}
    total = sum(s.case_ns for s in samples) / 1e9
    return Row(
        backend.name, status, reason, fix, backend.log,
        backend.status == PENDING and status == OK, is_baseline,
        candidate.judgement.verdict if candidate else None,
        candidate.judgement.reasons if candidate else (),
        candidate.judgement.test if candidate else None,
        latency([s.case_ns / 1e9 for s in samples]), latency(stages["forward"]), spread(samples), tile_fit(samples),
        comparison.case if comparison else itself if is_baseline else Speed(),
        comparison.forward if comparison else itself if is_baseline else Speed(),
        backend.build_s, backend.build_cached, backend.peak_memory_bytes,
        {stage: median(values) for stage, values in stages.items()},
        {stage: sum(values) / total if total else nan for stage, values in stages.items()},
        _parity(run, backend.name, comparison, is_baseline),
        {metric: claim.margin(metric) for metric in METRICS}, backend.evidence,
        limit(run.record, backend, samples), _device_share(samples), gpu_use(samples),
        resources(backend, samples, run.backend(run.record.baseline)), roi_use(samples, backend.scores), is_peer,
    )  # fmt: skip


def _parity(run: Run, name: str, comparison: Comparison | None, is_baseline: bool) -> Parity:
    if comparison:
        return comparison.parity
    return parity(run, name) if is_baseline else Parity.none(run)


def _device_share(samples: list[Sample]) -> float:
    forward = [(s.device_ns, s.stages_ns.get("forward", 0)) for s in samples]
    return median([device / host for device, host in forward if device is not None and host > 0])


def _timed(run: Run, backend: BackendRecord, is_baseline: bool) -> list[Sample]:
    """The duel samples behind a row's figures: a candidate's only where the baseline's lies beside them."""
    if backend.status in (SKIPPED, FAILED):
        return []
    if is_baseline:
        return [s for s in backend.samples if s.phase == DUEL]
    return [candidate for _, candidate in pairs(run, backend.name, DUEL)]


def _status(backend: BackendRecord, measured: bool) -> tuple[str, str | None, str | None]:
    if backend.status != PENDING:
        return backend.status, backend.reason, backend.fix
    if measured:
        return OK, None, None
    return SKIPPED, "the run ended before this backend was measured", "bench run --resume --out DIR"


def _missing(run: Run) -> tuple[str, ...]:
    present = {b.name for b in run.backends if b.status not in (SKIPPED, FAILED)}
    return tuple(name for name in run.record.settings.required if name not in present)


def _targets(rows: Sequence[Row], outcome: Outcome, claim: Claim) -> tuple[Target, ...]:
    baseline = next((row for row in rows if row.is_baseline), None)
    best = next((row for row in rows if row.name == outcome.subject), None)
    found = []
    for name, target in TARGETS.items():
        of_baseline: Metric = getattr(baseline.parity, name) if baseline else Metric()
        of_best: Metric = getattr(best.parity, name) if best else Metric()
        met = of_best.value >= target if isfinite(of_best.value) else None
        applicable = of_baseline.applicable
        found.append(Target(name, target, of_baseline.value, of_best.value, met, applicable=applicable))
    fastest = outcome.confirmation or (best.case if best else Speed())
    proved = {CONFIRMED: True, REFUTED: False}.get(outcome.speed)
    r = fastest.reduction
    return (*found, Target("time_reduction_pct", claim.min_reduction_pct, 0.0, r.estimate, proved, r.low, r.high))
