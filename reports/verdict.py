"""Is one speedup real, and is the accuracy kept? The rules, and the words for what they find."""

from dataclasses import dataclass

from reports.bootstrap import MIN_CASES
from reports.comparison import Metric, Parity, Speed
from reports.figures import NOT_APPLICABLE, change, count, percent, plain_percent
from reports.record import Settings

CONFIRMED, REFUTED, INCONCLUSIVE = "CONFIRMED", "REFUTED", "INCONCLUSIVE"
KEPT, LOST, UNDECIDED = "kept", "lost", "undecided"  # an accuracy

METRICS = {"whole_dsc": "whole-pancreas DSC", "lesion_dsc": "lesion DSC", "macro_f1": "macro-F1"}
_TRUTH = {"whole_dsc": "masks", "lesion_dsc": "lesion masks", "macro_f1": "subtypes"}
_LACK = {"lesion_dsc": "the network has no lesion class", "macro_f1": "the network has no classification"}
_CONFIDENCE = "with 95 % confidence"


@dataclass(frozen=True)
class Claim:
    """What is to be proved: the case time falls by `min_reduction_pct` and no score by more than its margin.

    `backend` names the one that the claim is about; None leaves it to the run's winner.
    """

    min_reduction_pct: float
    max_dsc_drop: float
    max_f1_drop: float
    backend: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Claim":
        """The claim a run was started with."""
        return cls(settings.min_reduction_pct, settings.max_dsc_drop, settings.max_f1_drop)

    def margin(self, metric: str) -> float:
        """How far a score of `METRICS` may fall."""
        return self.max_f1_drop if metric == "macro_f1" else self.max_dsc_drop


@dataclass(frozen=True)
class Judgement:
    """A backend's verdict. `reasons` start with what decided it; `speed` is a verdict, `accuracy` a state."""

    verdict: str
    reasons: tuple[str, ...]
    speed: str
    accuracy: str


def judge_speed(found: Speed, claim: Claim) -> tuple[str, str]:
    """The verdict on the time reduction, and its reason. Needs `MIN_CASES` cases."""
    r, required = found.reduction, plain_percent(claim.min_reduction_pct)
    if not found.cases:
        return INCONCLUSIVE, "never timed beside the baseline"
    fell = f"case time {'reduced' if r.estimate > 0 else 'increased'} by {percent(abs(r.estimate))}"
    if abs(r.estimate) < 0.05:
        fell = "case time unchanged"
    if found.cases < MIN_CASES:
        return INCONCLUSIVE, (
            f"{fell} on {count(found.cases, 'case')}, but a claim {_CONFIDENCE} needs at least {MIN_CASES} cases"
        )
    if r.low >= claim.min_reduction_pct:
        return CONFIRMED, f"{fell} (at least {percent(r.low)} {_CONFIDENCE}; {required} required)"
    if r.high < claim.min_reduction_pct:
        bound = f"reduced by at most {percent(r.high)}" if r.high >= 0 else f"increased by at least {percent(-r.high)}"
        return REFUTED, f"{fell} ({bound} {_CONFIDENCE}; a reduction of {required} required)"
    return INCONCLUSIVE, (
        f"{fell} (from {percent(r.low)} to {percent(r.high)}, each bound {_CONFIDENCE}; {required} required): "
        "more rounds or more cases would settle it"
    )


def metric_state(found: Metric, margin: float) -> str:
    """Non-inferiority: kept if the lower bound stays within the margin, lost if the estimate or the upper one does not.

    Undecided without truth and below `MIN_CASES` cases; not applicable where the network does not give what is scored.
    """
    if not found.applicable:
        return NOT_APPLICABLE
    if found.cases < MIN_CASES:
        return UNDECIDED
    if found.delta.low >= -margin:
        return KEPT
    return LOST if found.delta.high < -margin or found.delta.estimate < -margin else UNDECIDED


def judge_accuracy(found: Parity, claim: Claim) -> tuple[str, str]:
    """The state of the accuracy over those of `METRICS` that apply, and its reason, which names also the others."""
    every: dict[str, Metric] = {name: getattr(found, name) for name in METRICS}
    metrics = {name: metric for name, metric in every.items() if metric.applicable}
    beside = [f"{METRICS[name]} is {NOT_APPLICABLE}, as {_LACK[name]}" for name in every if name not in metrics]
    if not found.cases:
        return UNDECIDED, "accuracy undecided: no prediction was compared with the baseline's"
    if not any(metric.cases for metric in metrics.values()):
        truth = "masks, subtypes" if "macro_f1" in metrics else "masks"
        return UNDECIDED, "; ".join([f"accuracy undecided: the data hold no ground truth ({truth})", *beside])
    states = {name: metric_state(metric, claim.margin(name)) for name, metric in metrics.items()}
    for state in (LOST, UNDECIDED):
        said = [_say(name, metrics[name], state, claim) for name in metrics if states[name] == state]
        if said:
            return state, f"accuracy {state}: " + "; ".join(said + beside)
    said = [_say(name, metrics[name], KEPT, claim) for name in metrics]
    return KEPT, "accuracy unchanged within the margins: " + "; ".join(said + beside)


def _say(name: str, found: Metric, state: str, claim: Claim) -> str:
    label, margin = METRICS[name], claim.margin(name)
    if not found.cases:
        return f"{label} cannot be judged, as the data hold no {_TRUTH[name]}"
    if found.cases < MIN_CASES:
        return f"{label} rests on {count(found.cases, 'case')}, at least {MIN_CASES} are needed"
    if state == LOST:
        return f"{label} fell by {-found.delta.estimate:.4f} (margin {margin:g})"
    worst = f"at worst {change(found.delta.low)} {_CONFIDENCE}"
    said = f"{label} {change(found.delta.estimate)} ({worst}; margin {margin:g})"
    return said if state == KEPT else f"{said}, which more cases would settle"


def judge(found: Speed, accuracy: Parity, claim: Claim) -> Judgement:
    """A backend's verdict: refuted by either, confirmed by both, otherwise inconclusive."""
    of_speed, why_speed = judge_speed(found, claim)
    state, why_accuracy = judge_accuracy(accuracy, claim)
    reasons = (why_speed, why_accuracy)
    if of_speed == REFUTED or state == LOST:
        verdict, deciding = REFUTED, (of_speed == REFUTED, state == LOST)
    elif of_speed == CONFIRMED and state == KEPT:
        verdict, deciding = CONFIRMED, (True, True)
    else:
        verdict, deciding = INCONCLUSIVE, (of_speed != CONFIRMED, state != KEPT)
    return Judgement(verdict, reasons if deciding[0] else reasons[::-1], of_speed, state)
