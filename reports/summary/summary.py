"""A run as rows: everything a report says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan

from reports.analysis.cases import CaseChange
from reports.analysis.diagnostics import Diagnostics
from reports.analysis.gpu import GpuUse
from reports.analysis.interference import Interference
from reports.analysis.latency import Latency, Spread, TileFit
from reports.analysis.pareto import front
from reports.analysis.peers import PeerTime
from reports.analysis.resources import Resources
from reports.analysis.roi import RoiUse
from reports.analysis.roofline import Roofline
from reports.analysis.shards import ShardTimes
from reports.decision.accuracy import Accuracy, MetricKey
from reports.decision.speed import Speed
from reports.decision.verdict import Claim, SpeedVerdict, nearest_to_loss, severity
from reports.formatting import NOT_MEASURED, count, seconds
from reports.records.record import OK, EvidenceRecord, RunRecord, VariantSettings
from reports.records.store import Run


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant. Times come from the interleaved samples; they are NaN where nothing was measured.

    Attributes:
        status: ``ok``, ``skipped`` or ``failed``; `partial`: the run ended before this variant's last sample.
        left: why it left the rounds before their end; empty where it did not.
        verdict, reasons: None and empty for the baseline and for what did not run.
        test: the verdict on the case time alone, with its p-value; None as the verdict is.
        latency, forward_latency: of the case, and of the engine alone in it.
        spread, tile_fit: how the case time differs between cases, and grows with their tiles.
        case, forward: the time against the baseline's, in both scopes.
        stages_s, stages_share: median seconds of each stage, and its share of all the time.
        margins: how far each score may fall under the claim.
        roofline: the forward beside the device's measured peak.
        device_share: the forward by device events over that by the host's clock, in the median; NaN on a CPU.
        gpu: readings of the GPU; None on a CPU or without NVML.
        resources: what a case took beside time, and when the build has paid off.
        is_peer: what is run elsewhere, there to be compared with; its verdict is None as the baseline's is.
        roi: what a ROI strategy cost and lost; None without one.
        checked_classes: cases whose class a lower precision left uncertain, so that it was computed again in FP32.
        few_cases: how many it was timed on, where that is not all; None elsewhere.
        built_beside: how many others were being built at the same time at most.
    """

    name: str
    settings: VariantSettings
    status: str
    reason: str | None
    fix: str | None
    log: str | None
    partial: bool
    left: str
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
    accuracy: Accuracy
    margins: Mapping[MetricKey, float]
    evidence: EvidenceRecord | None
    roofline: Roofline
    device_share: float
    gpu: GpuUse | None
    resources: Resources
    roi: RoiUse | None = None
    is_peer: bool = False
    checked_classes: int = 0
    few_cases: int | None = None
    built_beside: int = 0

    @property
    def of_build(self) -> str:
        """What to put behind the seconds of its build, where they are not those of a first build alone."""
        parts = ["cached"] * self.build_cached + ["beside others"] * (self.built_beside > 0)
        return f" ({', '.join(parts)})" if parts and self.build_s is not None else ""

    @property
    def of_cases(self) -> str:
        """What to put behind a median that no other row's is comparable with, as it is of fewer cases."""
        return "" if self.few_cases is None else f" ({count(self.few_cases, 'case')})"

    @property
    def a_call(self) -> str:
        """What to put behind a time that is that of a call over all cases."""
        return " a call" if self.settings.one_call else ""

    @property
    def case_median(self) -> str:
        """``842 ms``: the median of the case time for a table, and what it is of where that is not one of all cases."""
        median = self.latency.median
        return seconds(median) + self.a_call + self.of_cases if isfinite(median) else NOT_MEASURED

    @property
    def label(self) -> str:
        """For tables of what a case takes: says where it is that of a call over all cases, or of fewer cases."""
        return f"{self.name} (a whole call)" if self.settings.one_call else self.name + self.of_cases


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A requirement of a score, or of the time where `key` is None. Scores meet theirs by their mean, the time by its
    lower bound.

    `met` is None where it could not be measured, is undecided, or is not applicable to the network; only the time has
    bounds.
    """

    key: MetricKey | None
    target: float
    baseline: float
    best: float
    met: bool | None
    low: float = nan
    high: float = nan
    applicable: bool = True

    @property
    def label(self) -> str:
        """For a table."""
        return self.key.label if self.key else "time reduction of a case"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run shows under a claim; the renderers take it from here.

    Attributes:
        best: the fastest variant that may meet the claim and whose accuracy is kept; where there is none, is undecided.
        subject: the one the verdict is about.
        cases, rounds: timed cases, and how often each was timed beside the others.
        confirmation: the subject's case time on fresh samples.
        noise: how often the baseline disagrees with itself: ``voxels``, ``differing_voxels`` and, with a
            classification, ``class_flips``.
        missing_required: required variants that were skipped, failed, not measured yet or not part of the run.
        warnings: what a reader should know before believing the figures.
        interference: how much other load there was during the samples, and the verdict without it.
        diagnostics: order effects, drift and autocorrelation of the samples.
        peers: the subject's case time against each peer's.
        run: the raw values that all of it comes from.
        cases_of: the variant whose cases and requirements are shown: the subject, or where none meets the claim the
            fastest.
        worst_cases: those that it changes most, the worst first; empty without scores.
        shards: of a merged run what each alone shows of the variant `cases_of`; empty of others.
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
    requirements: tuple[Requirement, ...]
    noise: Mapping[str, int]
    missing_required: tuple[str, ...]
    warnings: tuple[str, ...]
    interference: Interference
    diagnostics: Diagnostics
    peers: tuple[PeerTime, ...]
    cases_of: str | None
    worst_cases: tuple[CaseChange, ...]
    shards: tuple[ShardTimes, ...]
    run: Run = field(repr=False)

    @property
    def record(self) -> RunRecord:
        """What was run, on what, and with which settings."""
        return self.run.record

    @property
    def confirmed_on_fewer(self) -> bool:
        """Whether the confirmation took some of the cases only, as it was planned to."""
        planned = self.record.confirmation
        return self.confirmation is not None and planned is not None and len(planned.cases) < len(self.record.cases)

    def row(self, name: str | None) -> Row | None:
        """The row of a variant, if the run has it."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def compared(self) -> Row | None:
        """The variant that stands beside the baseline, that of `cases_of`; None where it was not timed."""
        row = self.row(self.cases_of)
        return row if row is not None and row.case.cases else None

    @property
    def speed(self) -> Speed:
        """Of `compared`: by the samples that the verdict rests on, the confirmation's where there are any."""
        row = self.compared
        return self.confirmation or (row.case if row else Speed())

    @property
    def measured(self) -> list[Row]:
        """The variants that ran: the baseline, then the fastest first."""

        def place(row: Row) -> tuple[bool, float]:
            speedup = row.case.speedup.estimate
            return not row.is_baseline, -speedup if isfinite(speedup) else 1.0

        return sorted((row for row in self.rows if row.status == OK), key=place)

    def shown(self, keys: Iterable[MetricKey]) -> tuple[MetricKey, ...]:
        """Those of `keys` that a table has room for: of structures the nearest to a loss in any variant."""
        rows = [row for row in self.measured if row.accuracy.cases and not (row.is_baseline or row.is_peer)]

        def worst(key: MetricKey) -> tuple[int, float]:
            return max((severity(key, row.accuracy.metric(key), row.margins[key]) for row in rows), default=(0, 0.0))

        return nearest_to_loss(keys, worst)

    @property
    def has_declared_claim(self) -> bool:
        """Whether the claim is the one of a plan that was declared before the run."""
        return bool(self.record.settings.plan_sha256) and self.claim == Claim.of(self.record.settings)

    @property
    def declaration(self) -> str | None:
        """What the run's plan says of its claim; None without a plan."""
        record = self.record
        if not record.settings.plan_sha256:
            return None
        plan = f"in plan {record.settings.plan_sha256[:12]} on {record.declared.replace('T', ' ')}"
        if self.has_declared_claim:
            return f"declared before the run {plan}"
        return f"not the claim that was declared before the run {plan}"

    @property
    def pareto_front(self) -> tuple[str, ...]:
        """The variants measured on all cases that no other one beats in both time and accuracy."""
        whole = (row for row in self.measured if row.few_cases is None)
        return front({row.name: (row.case.speedup.estimate, row.accuracy) for row in whole})
