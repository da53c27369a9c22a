"""How much a confirmation measures: the cases and launches whose bounds come soonest.

Few cases in many launches, or many cases in few: which is sooner depends on how much cases, launches and rounds differ,
which the interleaved samples show, and on how long a case and a launch take. So all pairs of both numbers are weighed,
a round in each launch, and of those that promise the wanted bounds the shortest is taken (the allocation of a two-stage
design: Cochran, Sampling Techniques, 1977, section 10.6). It is a forecast. The claim rests on what is then measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, isnan, log, sqrt

from scipy import stats

from reports.decision.needed import variances
from reports.decision.outcome import WIDEST
from reports.decision.speed import case_ns, pairs, speed
from reports.decision.verdict import Claim
from reports.records.record import INTERLEAVED
from reports.records.store import Run
from reports.stats.bootstrap import CONFIDENCE, MIN_CASES
from reports.stats.sample_size import Components, least_gain, mean_variance

LAUNCHES_SD = 0.017
"""Standard deviation of a launch's log ratio that is assumed at the least. It was 0.004 on one machine and 0.017 on
another (docs/explanation/validity.md), and two or three launches do not tell which of these a machine is."""

MOST_LAUNCHES = 12


@dataclass(frozen=True, kw_only=True)
class ConfirmationPlan:
    """So many cases in so many launches, with rounds over the cases spread over the launches."""

    cases: int
    launches: int
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of the pair: of both on one case, and of a launch of both with its warm-up."""

    case_s: float
    launch_s: float

    def of(self, plan: ConfirmationPlan) -> float:
        """Of the whole confirmation."""
        return plan.launches * self.launch_s + plan.rounds * plan.cases * self.case_s


def soonest(
    run: Run, name: str, claim: Claim, cost: Cost, whole: ConfirmationPlan, least_launches: int
) -> ConfirmationPlan:
    """The shortest confirmation of variant `name` whose bounds are expected to be at most `WIDEST` from their middle.

    It must also be expected to show the claim with a power of 80 %, were the variant only as fast as the lower bound
    of its interleaved samples. Where none that is shorter than the `whole` one, over all cases, does both, it is that.
    """
    paired = pairs(run, name, INTERLEAVED)
    known = speed(paired, case_ns).log_speedup
    parts = variances(paired)
    if parts is None or isnan(known.low(1 - CONFIDENCE)):
        return whole
    parts = replace(parts, launches=max(parts.launches, LAUNCHES_SD**2))
    gain = known.low(1 - CONFIDENCE) + log(1 - claim.min_reduction_pct / 100)
    promising = (
        plan
        for plan in _shorter(whole, cost, least_launches)
        if _half_width(parts, known.estimate, plan) <= WIDEST
        and least_gain(parts, plan.cases, plan.rounds, plan.launches) <= gain
    )
    return min(promising, key=lambda plan: (cost.of(plan), -plan.cases), default=whole)


def _shorter(whole: ConfirmationPlan, cost: Cost, least_launches: int) -> Iterator[ConfirmationPlan]:
    for launches in range(least_launches, max(least_launches, MOST_LAUNCHES) + 1):
        for cases in range(min(MIN_CASES, whole.cases), whole.cases + 1):
            plan = ConfirmationPlan(cases=cases, launches=launches, rounds=launches)
            if cost.of(plan) < cost.of(whole):
                yield plan


def _half_width(parts: Components, log_speedup: float, plan: ConfirmationPlan) -> float:
    """The expected half of the distance between the bounds, as `Speed.half_width` has it."""
    variance, freedom = mean_variance(parts, plan.cases, plan.rounds, plan.launches)
    expansion = sqrt(plan.cases / (plan.cases - 1))  # of `reports.stats.bootstrap.Bootstrap`
    away = expansion * float(stats.t.ppf(CONFIDENCE, freedom)) * sqrt(variance)
    of_baseline = (exp(away - log_speedup) - exp(-away - log_speedup)) / 2
    return min(of_baseline, away)
