"""How long a run will take, by the rules of `groups` and `confirmation` and what a pilot took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from bench.schedule.limits import Limits
from reports.decision.confirmation_plan import ConfirmationPlan, Cost, shortest
from reports.records.record import Settings
from reports.stats.bootstrap import MIN_CASES


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a pilot took.

    Attributes:
        case_s: mean seconds of a case, by variant; `opening_s`: of the last launch, its warm-up and first case.
        scoring_s: of one case of one variant.
    """

    case_s: Mapping[str, float]
    opening_s: Mapping[str, float]
    scoring_s: float


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Of a whole run, that of the device's peak left out.

    Attributes:
        rounds, launches: of the group that has most, before the confirmation.
        seconds: of everything.
    """

    rounds: int
    launches: int
    seconds: float


def expect(
    groups: Sequence[Sequence[str]], pace: Pace, cases: int, settings: Settings, limits: Limits
) -> tuple[Duration, Duration]:
    """The least and the most of a run with these `groups` of variants that work, the baseline first in each.

    With ``--rounds auto`` the least is what the launches ask for, in a race a single round and a confirmation on the
    fewest cases, and the most what the budget allows.
    """
    return (
        _run_of(groups, pace, cases, settings, limits, most=False),
        _run_of(groups, pace, cases, settings, limits, most=True),
    )


def _run_of(
    groups: Sequence[Sequence[str]], pace: Pace, cases: int, settings: Settings, limits: Limits, *, most: bool
) -> Duration:
    others = sum(len(group) - 1 for group in groups)
    rounds = launches = 0
    seconds = pace.scoring_s * cases * (1 + others)
    for group in groups:
        round_s, opening_s = cases * _sum(pace.case_s, group), _sum(pace.opening_s, group)
        each = 1 if _calls(settings, group) else max(1, ceil(limits.relaunch_cost * opening_s / round_s))
        own = _rounds(round_s, each, cases, (len(group) - 1) / max(others, 1), settings, limits)[most]
        own_launches = 1 + (own - 1) // each
        seconds += own * round_s + own_launches * opening_s
        rounds, launches = max(rounds, own), max(launches, own_launches)
    afresh = max(launches, limits.launches)
    whole = ConfirmationPlan(cases=cases, launches=afresh, rounds=max(rounds, afresh), repeated=cases)
    seconds += _confirmation(groups, pace, whole, settings, most=most)
    return Duration(rounds=rounds, launches=launches, seconds=seconds)


def _rounds(round_s: float, each: int, cases: int, share: float, settings: Settings, limits: Limits) -> tuple[int, int]:
    """The fewest and the most, as `groups` has it: it stops after the round beyond which the budget is spent.

    `each`: of a launch.
    """
    if settings.rounds is not None:
        return settings.rounds, settings.rounds
    most = min(limits.rounds, max(1, floor(settings.budget_s * share / round_s)))
    if cases < MIN_CASES:
        return 1, 1
    return 1 if settings.race else min(most, (limits.launches - 1) * each + 1), most


def _calls(settings: Settings, group: Sequence[str]) -> bool:
    """Whether one of the group runs all cases in a call; then each round has a launch of its own."""
    return any(settings.variants[name].one_call for name in group)


def _confirmation(
    groups: Sequence[Sequence[str]], pace: Pace, whole: ConfirmationPlan, settings: Settings, *, most: bool
) -> float:
    """Seconds of the fastest variant's, beside the baseline: the `whole` one, or the shortest that a race may plan."""
    others = [name for group in groups for name in group[1:]]
    if not others:
        return 0.0
    pair = (groups[0][0], min(others, key=lambda name: pace.case_s[name]))
    plan = whole
    if _calls(settings, pair):
        each = max(whole.rounds, MIN_CASES)
        plan = replace(whole, launches=each, rounds=each)
    elif settings.race and not most:
        plan = shortest(whole.cases, whole.launches)
    return Cost(case_s=_sum(pace.case_s, pair), launch_s=_sum(pace.opening_s, pair)).of(plan)


def _sum(seconds: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(seconds[name] for name in names)
