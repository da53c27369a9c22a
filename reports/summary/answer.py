"""What a reader asks first: is it faster, by how much, is the accuracy kept, which case is worst, on what machine."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

from reports.analysis.cases import CaseChange
from reports.decision.accuracy import DSC, MACRO_F1, NSD, MetricKey, metric_keys
from reports.decision.speed import PER_CALL, case_ns, pairs
from reports.decision.verdict import (
    ABSENT,
    CONFIRMED,
    INCONCLUSIVE,
    KEPT,
    LOST,
    REFUTED,
    UNDECIDED,
    Claim,
    agreement_reason,
    judge_accuracy,
    metric_state,
    own_margins,
    score_reason,
    severity,
)
from reports.formatting import (
    NOT_APPLICABLE,
    NOT_MEASURED,
    agreement,
    at_least,
    at_most,
    change,
    count,
    mebibytes,
    percent,
    plain_percent,
    share,
    significant,
)
from reports.records.record import AGREEMENT, CONFIRMATION, INTERLEAVED, TRUTH, HostRecord, RunRecord, Sample
from reports.stats.bootstrap import Interval
from reports.summary.summary import Row, Summary

_NOTHING = "no variant was timed beside the baseline"
_STATES = {CONFIRMED: KEPT, REFUTED: LOST, INCONCLUSIVE: UNDECIDED}


@dataclass(frozen=True)
class Figure:
    """A figure to be seen from afar.

    Attributes:
        label: what it is. value: a few characters. detail: what it rests on.
        state: ``kept``, ``lost`` or ``undecided``; empty where nothing is judged.
    """

    label: str
    value: str
    detail: str
    state: str = ""


@dataclass(frozen=True)
class Answer:
    """In sentences and figures.

    Attributes:
        claim: what was to be shown.
        time, throughput, accuracy: of the variant that the verdict is about.
        worst_case: which case lost most, and what.
        cases: on how many it was measured. machine: and on what.
    """

    claim: str
    time: Figure
    throughput: Figure
    accuracy: Figure
    worst_case: str
    cases: str
    machine: str

    @property
    def figures(self) -> tuple[Figure, Figure, Figure]:
        return self.time, self.throughput, self.accuracy


def answer(summary: Summary) -> Answer:
    """Of a run in any state; what was not measured says so."""
    return Answer(
        claim=_claim(summary),
        time=_time(summary),
        throughput=_throughput(summary),
        accuracy=_accuracy(summary),
        worst_case=_worst_case(summary),
        cases=_cases(summary),
        machine=_machine(summary.record),
    )


# --- the claim --------------------------------------------------------------------------------------------------------


def _claim(summary: Summary) -> str:
    claim, record = summary.claim, summary.record
    who = f" by {claim.variant}" if claim.variant else ""
    calls = summary.speed.unit == PER_CALL
    time = f"{'all cases' if calls else 'a case'} take{'' if calls else 's'} at least "
    time += f"{plain_percent(claim.min_reduction_pct)} less time{who} than by {record.baseline}"
    scores = _agreement_claim if claim.accuracy == AGREEMENT else _scores_claim
    return f"{time}, and {scores(claim, record)}"


def _scores_claim(claim: Claim, record: RunRecord) -> str:
    kinds = {key.kind for key in metric_keys(record.task) if key.structure or record.task.classes}
    margins = ((DSC, "DSC", claim.max_dsc_drop), (NSD, "NSD", claim.max_nsd_drop),
               (MACRO_F1.kind, "macro-F1", claim.max_f1_drop))  # fmt: skip
    shown = ", ".join(f"{label} {margin:g}" for kind, label, margin in margins if kind in kinds)
    return f"no mean score falls by more than its margin ({shown}{own_margins(record.task)})"


def _agreement_claim(claim: Claim, record: RunRecord) -> str:
    surfaces = any(own.nsd_tolerance_mm is not None for own in record.task.structures.values())
    nsd = f" and NSD {claim.min_agreement_nsd:g}" if surfaces else ""
    classes = f", and at most {plain_percent(100 * claim.max_class_changes)} of the classes change"
    return (
        f"its masks agree with the baseline's: mean DSC at least {claim.min_agreement_dsc:g}{nsd}, no case below a DSC "
        f"of {claim.min_worst_dsc:g}{classes * record.classifies}{own_margins(record.task)}"
    )


# --- the three figures ------------------------------------------------------------------------------------------------


def _time(summary: Summary) -> Figure:
    speed = summary.speed
    r = speed.reduction
    if not isfinite(r.estimate):
        return Figure("time saved", NOT_MEASURED, _NOTHING)
    label = "less time a case" if speed.unit != PER_CALL else "less time for all cases"
    if r.estimate < 0:
        label = label.replace("less", "more")
    samples = "on fresh samples" if summary.confirmation else "by the interleaved samples"
    if summary.confirmed_on_fewer:
        samples += f" of {count(speed.cases, speed.unit)}"
    detail = f"without a bound: {count(speed.cases, speed.unit)} only"
    if isfinite(r.low):
        detail = f"{_bound(r)} with 95 % confidence, {samples}"
    return Figure(label, percent(abs(r.estimate)), detail, _time_state(summary))


def _bound(reduction: Interval) -> str:
    if reduction.low >= 0:
        return f"at least {at_least(reduction.low)}"
    if reduction.high <= 0:
        return f"at least {at_least(-reduction.high)}"
    return f"from {at_most(-reduction.low)} more to {at_most(reduction.high)} less, each"


def _time_state(summary: Summary) -> str:
    """By the verdict on the time alone."""
    if summary.subject is not None:
        met = next((own.met for own in summary.requirements if own.key is None), None)
        return {True: KEPT, False: LOST, None: UNDECIDED}[met]
    test = summary.compared.test if summary.compared else None
    return _STATES[test.verdict] if test else UNDECIDED


def _throughput(summary: Summary) -> Figure:
    label, row = "cases a minute, one after the other", summary.compared
    if row is None:
        return Figure(label, NOT_MEASURED, _NOTHING)
    phase = CONFIRMATION if summary.confirmation else INTERLEAVED
    before, after = map(_cases_a_minute, zip(*pairs(summary.run, row.name, phase), strict=True))
    detail = f"by {summary.record.baseline} and by {row.name}"
    return Figure(label, f"{significant(before)} → {significant(after)}", detail)


def _cases_a_minute(samples: Iterable[Sample]) -> float:
    """By the mean time of each case, since some may have been timed more often than others; or of a shard's calls."""
    of: dict[tuple[int, str], list[Sample]] = {}
    for sample in samples:
        of.setdefault((sample.shard, sample.case), []).append(sample)
    cases = sum(len(own[0].subtypes) for own in of.values())
    return 6e10 * cases / sum(fmean(map(case_ns, own)) for own in of.values())


def _accuracy(summary: Summary) -> Figure:
    by_agreement, row = summary.claim.accuracy == AGREEMENT, summary.compared
    label = "agreement with the baseline" if by_agreement else "accuracy beside the baseline"
    if row is None or not row.accuracy.cases:
        return Figure(label, NOT_MEASURED, _NOTHING if row is None else "no prediction was compared")
    state, reason = judge_accuracy(row.accuracy, summary.claim)
    return Figure(label, state, _worst_score(row) or reason, state)


def _worst_score(row: Row) -> str:
    """The score that is lost most or is nearest to it, and how it stands; of a structure, where there are any."""
    states = {key: metric_state(key, metric, row.margins[key]) for key, metric in row.accuracy.metrics.items()}
    judged = [key for key, state in states.items() if state not in (NOT_APPLICABLE, ABSENT)]
    judged = [key for key in judged if row.accuracy.metrics[key].cases]
    if not judged:
        return ""
    key = max(judged, key=lambda key: severity(key, row.accuracy.metrics[key], row.margins[key]))
    reason = score_reason if row.accuracy.shown_by == TRUTH else agreement_reason
    place = "lost most" if states[key] == LOST else "nearest to a loss"
    return f"{place}: {reason(key, row.accuracy.metrics[key], states[key], row.margins[key])}"


# --- the rest ---------------------------------------------------------------------------------------------------------


def _worst_case(summary: Summary) -> str:
    if not summary.worst_cases:
        return NOT_MEASURED
    worst = next((each for each in summary.worst_cases if each.differs), None)
    if worst is None:
        return f"none: no mask or class of the {count(len(summary.worst_cases), 'case')} differs from the baseline's"
    return f"{worst.case}: {', '.join(_change_parts(worst, summary))}"


def _change_parts(worst: CaseChange, summary: Summary) -> Iterator[str]:
    if worst.structure:
        label = MetricKey(DSC, worst.structure).label
        if summary.claim.accuracy == AGREEMENT:
            yield f"{label} {agreement(worst.variant_dsc)} to the baseline's mask"
        else:
            yield f"{label} {change(worst.dsc_change)}"
    if worst.voxels:
        yield f"{share(worst.changed)} of its voxels changed"
    if worst.flipped:
        truth = "" if worst.truth is None else f" (truth {worst.truth})"
        yield f"class {worst.variant_class} and not {worst.baseline_class}{truth}"
    elif worst.baseline_class is not None:
        yield "the same class"


def _cases(summary: Summary) -> str:
    record = summary.record
    made_up = ", made-up volumes of the demo" if record.data.demo else ""
    split = f" of the split {record.data.split}" if record.data.split and not record.data.demo else ""
    return f"{count(summary.cases, 'case')}{split}{made_up}, in {count(summary.rounds, 'round')}"


def _machine(record: RunRecord) -> str:
    """The only one, or how many shards ran on each."""
    if not record.shards:
        return _words(record.host, record.settings.device)
    shards = Counter(_words(shard.host, shard.device) for shard in record.shards)
    return "; ".join(f"{count(number, 'shard')} on {machine}" for machine, number in shards.items())


def _words(host: HostRecord, device: str) -> str:
    cores = NOT_MEASURED if host.cores is None else count(host.cores, "core")
    parts = [host.processor, cores, mebibytes(host.memory_bytes)]
    return ", ".join([host.gpu, *parts] if device.startswith("cuda") and host.gpu else parts)
