"""Is one speedup real, and is the accuracy, or the agreement, kept? The rules, and the words for what they find."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite, isnan, nan

from reports.decision.accuracy import CLASS_AGREEMENT, DSC, MACRO_F1, NSD, WORST_DSC, Accuracy, Metric, MetricKey
from reports.decision.speed import Speed
from reports.formatting import (
    NOT_APPLICABLE,
    SHOWN,
    agreement,
    at_least,
    at_most,
    change,
    count,
    least_change,
    listed,
    percent,
    plain_percent,
)
from reports.records.record import AGREEMENT, TRUTH, Settings, TaskRecord
from reports.stats.bootstrap import MIN_CASES
from reports.stats.multiplicity import InterimAnalysis, holm
from reports.stats.power import ENOUGH_FOR_F1, LOST_SHARE, cases_to_bound

CONFIRMED, REFUTED, INCONCLUSIVE = "CONFIRMED", "REFUTED", "INCONCLUSIVE"
KEPT, LOST, UNDECIDED = "kept", "lost", "undecided"  # an accuracy
ABSENT = "absent"  # a score of what no case holds and no prediction claims
SHOWN_BY = {TRUTH: "accuracy", AGREEMENT: "agreement with the baseline"}  # what is judged beside the time
SHOWN_KEPT = {
    TRUTH: "accuracy kept within the margins",
    AGREEMENT: "agreement with the baseline kept within the margins",
}
MARGINS = {
    TRUTH: ("max_dsc_drop", "max_nsd_drop", "max_f1_drop"),
    AGREEMENT: ("min_agreement_dsc", "min_agreement_nsd", "min_worst_dsc", "max_class_changes"),
}
"""The margins of a claim by what it is shown by: fields of `Claim` and of the run's settings."""

_CONFIDENCE = "with 95 % confidence"
SINGLE_ANALYSIS = InterimAnalysis()  # at one claim, after a number of rounds fixed beforehand


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is to be proved: the case time falls by `min_reduction_pct` and no score by more than its margin.

    Where the `accuracy` is shown by agreement, no score to the baseline may be lower than required, and no larger share
    of the cases change their class. `variant` names the one that the claim is about; None leaves it to the run's
    winner.
    """

    min_reduction_pct: float
    accuracy: str
    max_dsc_drop: float
    max_nsd_drop: float
    max_f1_drop: float
    min_agreement_dsc: float
    min_agreement_nsd: float
    min_worst_dsc: float
    max_class_changes: float
    variant: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Claim":
        """The claim a run was started with."""
        return cls(**{each.name: getattr(settings, each.name) for each in fields(cls) if each.name != "variant"})

    def margin(self, key: MetricKey, own: float | None = None) -> float:
        """How far a score may fall: by its `own` margin, where the task gives it one."""
        if own is not None:
            return own
        if self.accuracy == AGREEMENT:
            required = {DSC: self.min_agreement_dsc, NSD: self.min_agreement_nsd, WORST_DSC: self.min_worst_dsc}
            return 1 - required[key.kind] if key.kind in required else self.max_class_changes
        if key == MACRO_F1:
            return self.max_f1_drop
        return self.max_nsd_drop if key.kind == NSD else self.max_dsc_drop


@dataclass(frozen=True, kw_only=True)
class SpeedVerdict:
    """The verdict on the time reduction.

    Attributes:
        p: of "the reduction is less than required"; `p_holm`: adjusted for the variants judged together. NaN below
            `MIN_CASES` cases.
        analysis: with which error rate it was decided.
    """

    verdict: str
    reason: str
    p: float = nan
    p_holm: float = nan
    analysis: InterimAnalysis = SINGLE_ANALYSIS


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A variant's verdict. `reasons` start with what decided it; `accuracy` is a state."""

    verdict: str
    reasons: tuple[str, ...]
    test: SpeedVerdict
    accuracy: str

    @property
    def speed(self) -> str:
        """The verdict on the time reduction alone."""
        return self.test.verdict


def own_margins(task: TaskRecord) -> str:
    """What to put behind the margins of a claim where structures have their own; empty where none has."""
    own = any(s.max_dsc_drop is not None or s.max_nsd_drop is not None for s in task.structures.values())
    return "; some structures have margins of their own" if own else ""


def judge_speeds(
    speeds: Mapping[str, Speed], claim: Claim, analyses: Mapping[str, int | None]
) -> dict[str, SpeedVerdict]:
    """The verdicts on all variants of a run together, by their interleaved samples.

    `analyses`: how many interim ones each has had, one with each of its rounds; None where their number was fixed.
    """
    own = [speed.p_at_most(claim.min_reduction_pct) for speed in speeds.values()]
    adjusted = holm([1.0 if isnan(p) else p for p in own])  # what was not timed yet still is a claim
    return {
        name: judge_speed(speed, claim, InterimAnalysis.after(analyses[name], len(speeds)), p_holm)
        for (name, speed), p_holm in zip(speeds.items(), adjusted, strict=True)
    }


def judge_speed(
    speed: Speed, claim: Claim, analysis: InterimAnalysis = SINGLE_ANALYSIS, p_holm: float | None = None
) -> SpeedVerdict:
    """The verdict on the time reduction; the confirmation's by default, which is a single claim and a single analysis.

    Confirmed if `p_holm` is within the analysis's error rate; refuted if the upper bound at that rate is below what is
    required, without Holm, since a refutation claims nothing. Needs `MIN_CASES` cases.
    """
    p = speed.p_at_most(claim.min_reduction_pct)
    p_holm = p if p_holm is None or isnan(p) else p_holm
    verdict, reason = _speed_verdict(speed, claim, analysis, p_holm)
    return SpeedVerdict(verdict=verdict, reason=reason, p=p, p_holm=p_holm, analysis=analysis)


def _speed_verdict(speed: Speed, claim: Claim, analysis: InterimAnalysis, p_holm: float) -> tuple[str, str]:
    r, required = speed.reduction, plain_percent(claim.min_reduction_pct)
    if not speed.cases:
        return INCONCLUSIVE, "never timed beside the baseline"
    fell = f"{speed.scope} {'reduced' if r.estimate > 0 else 'increased'} by {percent(abs(r.estimate))}"
    if abs(r.estimate) < 0.05:
        fell = f"{speed.scope} unchanged"
    if speed.cases < MIN_CASES:
        return INCONCLUSIVE, (
            f"{fell} on {count(speed.cases, speed.unit)}, but a claim {_CONFIDENCE} needs at least {MIN_CASES} "
            f"{speed.unit}s"
        )
    if p_holm <= analysis.alpha:
        return CONFIRMED, f"{fell} (at least {at_least(r.low)} {_CONFIDENCE}; {required} required)"
    bound = f"reduced by at most {at_most(r.high)}" if r.high >= 0 else f"increased by at least {at_least(-r.high)}"
    if speed.reduction_high(analysis.alpha) < claim.min_reduction_pct:
        return REFUTED, f"{fell} ({bound} {_CONFIDENCE}; a reduction of {required} required)"
    if r.low >= claim.min_reduction_pct:
        return INCONCLUSIVE, (
            f"{fell} (at least {at_least(r.low)} {_CONFIDENCE}; {required} required), which this variant's own bound "
            f"would confirm, but not {_multiplicity_note(analysis)}: p = {p_holm:.2g} exceeds {analysis.alpha:.2g}"
        )
    if r.high < claim.min_reduction_pct:
        return INCONCLUSIVE, (
            f"{fell} ({bound} {_CONFIDENCE}; a reduction of {required} required), which this bound would refute, but "
            f"not {_interim_note(analysis)} at the level {analysis.alpha:.2g}"
        )
    return INCONCLUSIVE, (
        f"{fell} (from {at_least(r.low)} to {at_most(r.high)}, each bound {_CONFIDENCE}; {required} required): "
        "more rounds or more cases would settle it"
    )


def _multiplicity_note(analysis: InterimAnalysis) -> str:
    holm = f"by Holm's test over the {analysis.claims} variants" if analysis.claims > 1 else ""
    return " and ".join(part for part in (holm, _interim_note(analysis) if analysis.number else "") if part)


def _interim_note(analysis: InterimAnalysis) -> str:
    return f"at interim analysis {analysis.number} of a run that may stop after each round"


def metric_state(key: MetricKey, metric: Metric, margin: float) -> str:
    """Non-inferiority: kept if the lower bound stays within the margin, lost if the estimate or the upper one does not.

    Undecided without truth, below `MIN_CASES` cases, and where nothing was lost of a macro-F1 on fewer than
    `ENOUGH_FOR_F1`; not applicable where the network does not give what is scored; absent where no case has it. The
    worst of all cases has no bounds: it is kept or lost as observed.
    """
    if not metric.applicable:
        return NOT_APPLICABLE
    if metric.absent and not metric.cases:
        return ABSENT
    if metric.cases < MIN_CASES:
        return UNDECIDED
    if key.kind == WORST_DSC:
        return KEPT if metric.delta.estimate >= -margin else LOST
    if metric.delta.low >= -margin:
        return KEPT if key != MACRO_F1 or metric.cases >= ENOUGH_FOR_F1 else UNDECIDED
    return LOST if metric.delta.high < -margin or metric.delta.estimate < -margin else UNDECIDED


def severity(key: MetricKey, metric: Metric, margin: float) -> tuple[int, float]:
    """How near a score is to a loss, for ordering: its state, then its lower bound's fall over the margin."""
    state = metric_state(key, metric, margin)
    fall = -(metric.delta.low if isfinite(metric.delta.low) else metric.delta.estimate)
    share = fall / margin if margin else inf if fall > 0 else 0.0
    order = (KEPT, UNDECIDED, LOST)
    return order.index(state) if state in order else -1, -inf if isnan(share) else share


def nearest_to_loss(
    keys: Iterable[MetricKey], severity_of: Callable[[MetricKey], tuple[int, float]]
) -> tuple[MetricKey, ...]:
    """Those that a table has room for, in their order: `SHOWN` of structures, the most severe, and all others."""
    every = tuple(keys)
    worst = sorted((key for key in every if key.structure is not None), key=severity_of, reverse=True)[:SHOWN]
    return tuple(key for key in every if key.structure is None or key in worst)


def judge_accuracy(accuracy: Accuracy, claim: Claim) -> tuple[str, str]:
    """The state of the accuracy, or agreement, over the scores that apply, and its reason, which names also the others.

    It is kept only if every score is. Such an intersection-union test needs no correction for their number: Berger,
    "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24(4), 1982.
    """
    margins = {key: claim.margin(key, metric.own_margin) for key, metric in accuracy.metrics.items()}
    states = {key: metric_state(key, metric, margins[key]) for key, metric in accuracy.metrics.items()}
    judged = [key for key, state in states.items() if state not in (NOT_APPLICABLE, ABSENT)]
    notes, shown = _notes(states, accuracy.classifies), SHOWN_BY[accuracy.shown_by]
    if not accuracy.cases:
        return UNDECIDED, f"{shown} undecided: no prediction was compared with the baseline's"
    if not judged:
        return UNDECIDED, "; ".join([f"{shown} undecided: no case has what is scored", *notes])
    by_truth = accuracy.shown_by == TRUTH
    if by_truth and not any(metric.cases or metric.absent for metric in accuracy.metrics.values()):
        truth = "masks, subtypes" if MACRO_F1 in judged else "masks"
        return UNDECIDED, "; ".join([f"accuracy undecided: the data hold no ground truth ({truth})", *notes])
    state = next((state for state in (LOST, UNDECIDED) if state in states.values()), KEPT)
    deciding = [key for key in judged if states[key] == state]
    if len(deciding) > SHOWN:
        deciding.sort(key=lambda key: severity(key, accuracy.metrics[key], margins[key]), reverse=True)
    reason = score_reason if by_truth else agreement_reason
    reasons = [reason(key, accuracy.metrics[key], state, margins[key]) for key in deciding]
    intro = SHOWN_KEPT[accuracy.shown_by] if state == KEPT else f"{shown} {state}"
    return state, f"{intro}: " + "; ".join([listed(reasons, "; "), *notes])


def _notes(states: Mapping[MetricKey, str], classifies: bool) -> list[str]:
    """Which scores were not judged, and why; `classifies`: the task has classes."""
    missing = [key for key, state in states.items() if state == NOT_APPLICABLE]
    absent = dict.fromkeys(key.structure or "" for key, state in states.items() if state == ABSENT)
    notes = [f"{key.label} is {NOT_APPLICABLE}, as {_missing_output(key, classifies)}" for key in missing]
    if absent:
        notes.append(f"in no case, and so not judged: {listed(list(absent))}")
    return [listed(notes, "; ")] if notes else []


def _missing_output(key: MetricKey, classifies: bool) -> str:
    if key.structure is not None:
        return f"the network has no {key.structure} class"
    return "the baseline gives no class" if classifies else "the task has no classes"


def score_reason(key: MetricKey, metric: Metric, state: str, margin: float) -> str:
    """What a score came to, and why that is its state."""
    label = key.label
    if not metric.cases:
        if key.structure is None:
            return f"{label} cannot be judged, as no case has a true and a predicted subtype"
        return f"{label} cannot be judged, as the data hold no masks of the {key.structure}"
    if metric.cases < MIN_CASES:
        absent = f" ({metric.absent} more are without it)" if metric.absent else ""
        return f"{label} rests on {count(metric.cases, 'case')}{absent}, at least {MIN_CASES} are needed"
    if state == LOST:
        return f"{label} fell by {-metric.delta.estimate:.4f} (margin {margin:g})"
    worst = f"at worst {least_change(metric.delta.low)} {_CONFIDENCE}"
    text = f"{label} {change(metric.delta.estimate)} ({worst}; margin {margin:g})"
    if state == KEPT:
        return text
    if key == MACRO_F1 and metric.delta.low >= -margin:
        return (
            f"{text}, but {count(metric.cases, 'case')} may not show that {plain_percent(100 * LOST_SHARE)} of all are "
            f"lost; {ENOUGH_FOR_F1} cases would settle it"
        )
    return f"{text}, which more cases would settle"


def agreement_reason(key: MetricKey, metric: Metric, state: str, margin: float) -> str:
    """What a score to the baseline came to, and why that is its state; where it is lost, in which case most."""
    if metric.cases < MIN_CASES:
        absent = f" ({metric.absent} more are without it)" if metric.absent else ""
        return f"{key.label} rests on {count(metric.cases, 'case')}{absent}, at least {MIN_CASES} are needed"
    if key == CLASS_AGREEMENT:
        return _class_reason(metric, state, margin)
    required = f"{1 - margin:g} required"
    if key.kind == WORST_DSC:
        where = "every case" if metric.value == 1 else metric.worst_case
        return f"{key.label} {agreement(metric.value)} in {where} ({required}; observed, so without a bound)"
    low = agreement(metric.baseline + metric.delta.low)
    text = f"{key.label} {agreement(metric.value)} (at least {low} {_CONFIDENCE}; {required})"
    if state == LOST:
        return f"{text}, lowest in {metric.worst_case}"
    return text if state == KEPT else f"{text}, which more cases would settle"


def _class_reason(metric: Metric, state: str, margin: float) -> str:
    changed = round((1 - metric.value) * metric.cases)
    text = (
        f"another class in {changed} of {count(metric.cases, 'case')} (at most {at_most(-100 * metric.delta.low)} of "
        f"all {_CONFIDENCE}; {plain_percent(100 * margin)} allowed)"
    )
    if state != UNDECIDED:
        return text
    if changed or not margin:
        return f"{text}, which more cases would settle" if margin else f"{text}, which no number of cases can show"
    return f"{text}; {cases_to_bound(margin)} cases without a change would settle it"


def judge(test: SpeedVerdict, accuracy: Accuracy, claim: Claim) -> Judgement:
    """A variant's verdict: refuted by either, confirmed by both, otherwise inconclusive."""
    state, why_accuracy = judge_accuracy(accuracy, claim)
    reasons = (test.reason, why_accuracy)
    if test.verdict == REFUTED or state == LOST:
        verdict, speed_decides = REFUTED, test.verdict == REFUTED
    elif test.verdict == CONFIRMED and state == KEPT:
        verdict, speed_decides = CONFIRMED, True
    else:
        verdict, speed_decides = INCONCLUSIVE, test.verdict != CONFIRMED
    ordered = reasons if speed_decides else reasons[::-1]
    return Judgement(verdict=verdict, reasons=ordered, test=test, accuracy=state)
