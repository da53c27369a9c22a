"""How much a confirmation measures: the cases and launches whose bounds come soonest.

Few cases in many launches, or many cases in few: which is sooner depends on how much cases, launches and rounds differ,
which the interleaved samples show, and on how long a case and a launch take. So both numbers are weighed, and of those
that promise the wanted bounds the shortest is taken (the allocation of a two-stage design: Cochran, Sampling
Techniques, 1977, section 10.6). Cases that every launch repeats show how launches differ. Beyond these, one more case
says more than the same one again, so each of the others is run in one launch alone. It is a forecast. The claim rests
on what is then measured.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, isnan, log, sqrt

import scipy

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

ROUNDS_SHARE = 1 / 3
"""Of the variance that the samples of a single round have, so much is taken for that of rounds, and the rest for that
of cases: they do not tell which it is. In three committed runs it was 0.01 to 0.2."""

MOST_LAUNCHES = 12
LEAST_REPEATED = 3  # the fewest whose median an outlier does not move


@dataclass(frozen=True, kw_only=True)
class ConfirmationPlan:
    """So many cases in so many launches, with rounds over the cases spread over the launches.

    So many of the cases are `repeated` in every launch. Each of the others is run in one alone, in a single round.
    """

    cases: int
    launches: int
    rounds: int
    repeated: int

    @property
    def pairs(self) -> int:
        """Of samples, in the whole confirmation."""
        return self.rounds * self.repeated + self.cases - self.repeated


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of the pair: of both on one case, and of a launch of both with its warm-up."""

    case_s: float
    launch_s: float

    def of(self, plan: ConfirmationPlan) -> float:
        """Of the whole confirmation."""
        return plan.launches * self.launch_s + plan.pairs * self.case_s


def shortest(cases: int, launches: int) -> ConfirmationPlan:
    """The least that a confirmation in so many `launches` measures, of a run of so many `cases`."""
    return _least(min(MIN_CASES, cases), launches)


def _least(cases: int, launches: int) -> ConfirmationPlan:
    """Over so many cases."""
    return ConfirmationPlan(cases=cases, launches=launches, rounds=launches, repeated=min(LEAST_REPEATED, cases))


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
    parts = _expected(parts)
    gain = known.low(1 - CONFIDENCE) + log(1 - claim.min_reduction_pct / 100)

    def promises(plan: ConfirmationPlan) -> bool:
        powerful = least_gain(parts, plan.cases, plan.rounds, plan.launches, plan.repeated) <= gain
        return powerful and _half_width(parts, known.estimate, plan) <= WIDEST

    return _shortest(whole, cost, least_launches, promises)


def _expected(parts: Components) -> Components:
    """With what a single launch or round does not show, and two hardly."""
    launches = max(parts.launches, LAUNCHES_SD**2)
    if parts.rounds:
        return replace(parts, launches=launches)
    return Components(cases=(1 - ROUNDS_SHARE) * parts.cases, launches=launches, rounds=ROUNDS_SHARE * parts.cases)


def _shortest(
    whole: ConfirmationPlan, cost: Cost, least_launches: int, promises: Callable[[ConfirmationPlan], bool]
) -> ConfirmationPlan:
    """Of what `promises` enough, of equal ones that with most cases; the `whole` one where nothing shorter does."""
    best = whole
    for launches in range(least_launches, max(least_launches, MOST_LAUNCHES) + 1):
        for cases in range(min(MIN_CASES, whole.cases), whole.cases + 1):
            least = _least(cases, launches)
            if cost.of(least) > cost.of(best):
                break
            plan = _fewest_repeated(least, promises)
            if plan is not None:
                best = min(best, plan, key=lambda each: (cost.of(each), -each.cases))
    return best


def _fewest_repeated(least: ConfirmationPlan, promises: Callable[[ConfirmationPlan], bool]) -> ConfirmationPlan | None:
    """The `least` one, with as many cases repeated as it takes; None where all do not suffice."""
    numbers = range(least.repeated, least.cases + 1)
    at = bisect_left(numbers, True, key=lambda number: promises(replace(least, repeated=number)))
    return replace(least, repeated=numbers[at]) if at < len(numbers) else None


def _half_width(parts: Components, log_speedup: float, plan: ConfirmationPlan) -> float:
    """The expected half of the distance between the bounds, as `Speed.half_width` has it."""
    variance, freedom = mean_variance(parts, plan.cases, plan.rounds, plan.launches, plan.repeated)
    expansion = sqrt(plan.cases / (plan.cases - 1))  # of `reports.stats.bootstrap.Bootstrap`
    away = expansion * float(scipy.stats.t.ppf(CONFIDENCE, freedom)) * sqrt(variance)
    of_baseline = (exp(away - log_speedup) - exp(-away - log_speedup)) / 2
    return min(of_baseline, away)
