"""A search for the fastest recipe: what its trials were, and which of them is the best.

A trial is timed beside one reference on tuning cases. Nothing is proved by it: the best of many trials looks faster and
more accurate than it is, so that it is confirmed on evaluation cases that the search has not seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, isfinite, log, nan, sqrt

from reports.decision.accuracy import WORST_DSC, Accuracy
from reports.decision.racing import ONE_LAUNCH
from reports.decision.speed import Speed
from reports.decision.verdict import ABSENT, LOST, Claim, judge_accuracy, metric_state
from reports.formatting import NOT_APPLICABLE
from reports.records.record import VariantSettings
from reports.stats.bootstrap import ALPHA, MIN_CASES

MEASURED, PRUNED, FAILED = "measured", "pruned", "failed"  # states of a trial
NEAR = log(1.02)  # log ratio of times that a search does not tell apart


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A recipe and what the search found of it.

    Attributes:
        state: `MEASURED` on all tuning cases; `PRUNED` after some, once it was slower than the best or had lost
            accuracy beyond doubt; `FAILED`, and then `reason` says why.
        speedup: over the reference; `low`, `high`: its one-sided 95 % bounds. None where it is not known.
        cases: that it was timed on.
        accuracy: ``kept``, ``undecided`` or ``lost`` beside the run's baseline; empty where it was not scored.
        promising: whether the accuracy is expected to be kept on the evaluation cases: see `is_promising`.
        margin_used: the largest share of its margin that a mean score fell by; below 0 where all rose. None where it is
            not known.
        seconds: that the search spent on it.
    """

    number: int
    settings: VariantSettings
    state: str
    reason: str = ""
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    cases: int = 0
    accuracy: str = ""
    accuracy_reason: str = ""
    promising: bool = False
    margin_used: float | None = None
    seconds: float = 0.0

    @property
    def log_speedup(self) -> float:
        """Of the estimate; NaN where it was not timed."""
        return log(self.speedup) if self.speedup else nan


def timed(number: int, settings: VariantSettings, state: str, reason: str, speed: Speed) -> Trial:
    """A trial that was timed, and not scored."""
    estimate, low, high = (own if isfinite(own) else None for own in vars(speed.speedup).values())
    return Trial(
        number=number, settings=settings, state=state, reason=reason, speedup=estimate, low=low, high=high,
        cases=speed.cases,
    )  # fmt: skip


def judged(
    number: int, settings: VariantSettings, speed: Speed, accuracy: Accuracy, claim: Claim, evaluated: int
) -> Trial:
    """A trial on all tuning cases, of a search that is confirmed on so many `evaluated` cases."""
    state, reason = judge_accuracy(accuracy, claim)
    return replace(
        timed(number, settings, MEASURED, "", speed),
        accuracy=state,
        accuracy_reason=reason,
        promising=is_promising(accuracy, claim, evaluated),
        margin_used=_margin_used(accuracy, claim),
    )


def is_promising(accuracy: Accuracy, claim: Claim, evaluated: int) -> bool:
    """Whether the accuracy would be kept on so many cases, were they like the tuning cases.

    A bound lies as far from its estimate as the square root of the number of cases lets it. So few tuning cases may
    leave a score undecided that more evaluation cases are expected to decide. A score on fewer than `MIN_CASES` has no
    bound with any recipe: of it the estimate counts, and nothing where that is not known either.
    """
    nearer = sqrt(accuracy.cases / evaluated) if evaluated else inf
    for key, metric in accuracy.metrics.items():
        margin, delta = claim.margin(key, metric.own_margin), metric.delta
        if metric_state(key, metric, margin) in (NOT_APPLICABLE, ABSENT) or not metric.cases:
            continue
        bounded = key.kind != WORST_DSC and metric.cases >= MIN_CASES
        away = nearer * (delta.estimate - delta.low) if bounded else 0.0
        if not delta.estimate - away >= -margin:  # nor where it is not known
            return False
    return bool(accuracy.cases)


def without_bounds(accuracy: Accuracy) -> dict[str, int]:
    """The scores that too few of the tuning cases have, which no recipe's accuracy is kept on, and how many have it."""
    return {
        key.label: metric.cases
        for key, metric in accuracy.metrics.items()
        if metric.applicable and metric.cases < MIN_CASES and not (metric.absent and not metric.cases)
    }


def is_beaten(speed: Speed, best: Trial) -> bool:
    """Whether a recipe is slower than the `best` so far whatever the luck of its launch; never below `MIN_CASES`."""
    return speed.cases >= MIN_CASES and speed.log_speedup.high(ALPHA) + ONE_LAUNCH < best.log_speedup


def is_lost(accuracy: Accuracy, claim: Claim) -> bool:
    """Whether the cases so far show beyond doubt that a score falls by more than its margin."""
    return any(
        metric.applicable and metric.delta.high < -claim.margin(key, metric.own_margin)
        for key, metric in accuracy.metrics.items()
    )


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The fastest that is promising; of those that are as fast to `NEAR`, the one that is furthest from a loss.

    Where none is, as with too few tuning cases, those stand in whose accuracy is not lost, first those whose mean
    scores fell by no more than their margins. None without any.
    """
    able = [t for t in trials if t.state == MEASURED and t.accuracy != LOST and isfinite(t.log_speedup)]
    within = [trial for trial in able if _used(trial) <= 1]
    promising = [trial for trial in able if trial.promising] or within or able
    if not promising:
        return None
    fastest = max(trial.log_speedup for trial in promising)
    near = [trial for trial in promising if trial.log_speedup >= fastest - NEAR]
    return min(near, key=lambda trial: (_used(trial), -trial.log_speedup, trial.number))


def undecided_faster(trials: Iterable[Trial], best: Trial) -> list[Trial]:
    """The measured trials, the fastest first, that only an accuracy that is neither lost nor promising kept from it."""
    faster = [
        trial
        for trial in trials
        if trial.state == MEASURED and trial.accuracy != LOST and not trial.promising
        and trial.log_speedup > best.log_speedup + NEAR
    ]  # fmt: skip
    return sorted(faster, key=lambda trial: -trial.log_speedup)


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The measured trials that no other one beats in both time and accuracy, the fastest first.

    Two that are equal in both are one.
    """
    measured = [t for t in trials if t.state == MEASURED and isfinite(t.log_speedup) and t.margin_used is not None]
    measured.sort(key=lambda trial: (-trial.log_speedup, _used(trial), trial.number))
    chosen: list[Trial] = []
    for trial in measured:
        if all(_used(trial) < _used(faster) for faster in chosen):
            chosen.append(trial)
    return chosen


def speedup_of(trial: Trial, reference: Trial) -> float:
    """How many times as fast as `reference` a trial is, both by their speedups over the same third."""
    return exp(trial.log_speedup - reference.log_speedup)


def _used(trial: Trial) -> float:
    return trial.margin_used if trial.margin_used is not None else 0.0


def _margin_used(accuracy: Accuracy, claim: Claim) -> float | None:
    used = []
    for key, metric in accuracy.metrics.items():
        margin = claim.margin(key, metric.own_margin)
        if metric_state(key, metric, margin) in (NOT_APPLICABLE, ABSENT) or not isfinite(metric.delta.estimate):
            continue
        fall = -metric.delta.estimate
        used.append(fall / margin if margin else (1e3 if fall > 0 else 0.0))
    return max(used, default=None)
