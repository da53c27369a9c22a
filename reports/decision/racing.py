"""Which variants may leave a run's rounds, since nothing that they could still show changes its answer.

Elimination as in racing (Maron & Moore, "Hoeffding Races: Accelerating Model Selection Search for Classification and
Function Approximation", NIPS 1993), with paired bounds by bootstrap in the place of Hoeffding's, and group-sequential:
each look at the samples spends a part of the error, half of it in equal parts within the first round and half after the
rounds as `spent` has it, shared by those that still race. So the variant that is truly best leaves wrongly in at most
5 % of the runs. What remains is confirmed on fresh samples whatever the race did, so that it makes no claim of its own.

Among variants that are nearer to each other than `INDIFFERENCE`, any may be taken, as in the indifference-zone
formulation of selection (Bechhofer, "A Single-Sample Multiple Decision Procedure for Ranking Means of Normal
Populations with Known Variances", Annals of Mathematical Statistics 25, 1954): it is the fastest as measured.
"""

from collections.abc import Collection, Mapping
from math import log

from reports.decision.accuracy import compare_accuracy
from reports.decision.comparison import candidates
from reports.decision.outcome import WIDEST, interim_analyses
from reports.decision.speed import Speed, interleaved_speed
from reports.decision.verdict import CONFIRMED, KEPT, LOST, UNDECIDED, Claim, judge_accuracy, judge_speeds
from reports.formatting import count, factor, percent, plain_percent
from reports.records.store import Run
from reports.stats.bootstrap import ALPHA, MIN_CASES
from reports.stats.multiplicity import spent

ONE_LAUNCH = 0.06
"""How far, as a log ratio, the luck of single processes may carry two equal variants from each other. Two launches and
more show it themselves; see "Why processes are launched anew" in docs/explanation/validity.md."""

INDIFFERENCE = 0.10
"""How much of its time another variant may save, at most, over the one that is taken. To tell such two apart takes more
samples than all others together, and the launch of their processes may turn their order around."""

_STEP = 1.6  # from one look within the first round to the next


def looks(cases: int) -> tuple[int, ...]:
    """After how many cases of the first round the samples are looked at; before its end, which is a look of its own."""
    numbers, number = [], MIN_CASES
    while number < cases:
        numbers.append(number)
        number = round(number * _STEP)
    return tuple(numbers)


def level_early(cases: int) -> float:
    """The error rate that a look within the first round may spend."""
    return ALPHA / 2 / len(looks(cases))


def level_after(rounds: int) -> float:
    """The error rate that the look after so many rounds may spend."""
    return spent(rounds) / 2


def accuracy_states(run: Run, claim: Claim) -> dict[str, tuple[str, str]]:
    """The state of each racing variant's accuracy with its reason; rounds after the first do not change it."""
    racing = [variant for variant in candidates(run) if variant.scores and not variant.left]
    return {variant.name: judge_accuracy(compare_accuracy(run, variant.name), claim) for variant in racing}


def leaving(run: Run, claim: Claim, level: float, accuracy: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The variants that need not be run further, each with the reason why.

    Args:
        run: as it stands.
        level: the error rate that this look may spend over all variants.
        accuracy: as of `accuracy_states`; empty before the first round is complete.
    """
    racing = [variant.name for variant in candidates(run) if not variant.left]
    level /= max(1, len(racing))
    speeds = {name: interleaved_speed(run, name) for name in racing}
    states = {name: accuracy.get(name, ("", "")) for name in racing}
    why = {name: f"its {reason}" for name, (state, reason) in states.items() if state == LOST}
    why |= {name: reason for name in racing if name not in why and (reason := _slow(speeds[name], claim, level))}
    able = {name: own for name, own in speeds.items() if name not in why}
    kept = {name: own for name, own in able.items() if states[name][0] == KEPT and own.cases}
    if not kept:
        return why
    leader = max(kept, key=lambda name: kept[name].speedup.estimate)
    beside = {name: interleaved_speed(run, name, leader) for name in able if name != leader}
    beaten = [name for name, own in beside.items() if _is_below(own, 0.0, level)]
    why |= {name: f"beaten beyond doubt {_takes(beside[name], leader)}" for name in beaten}
    if _is_confirmed(run, claim, leader):
        undecided = [name for name in beside if name not in why and states[name][0] == UNDECIDED]
        why |= dict.fromkeys(
            undecided, f"its accuracy is undecided, which more rounds do not change; {leader}'s is kept"
        )
    zone, saved = _zone(run, claim, leader), plain_percent(100 * INDIFFERENCE)
    near = [name for name, own in beside.items() if _is_below(own, zone, level)]
    return {name: f"not {saved} faster beyond doubt {_takes(beside[name], leader)}" for name in near} | why


def known_peers(run: Run) -> tuple[str, ...]:
    """The reference pipelines that still run and whose time is known to `WIDEST` by the samples of the rounds."""
    there = [variant.name for variant in run.variants if not variant.left]
    running = [name for name in run.record.peers if name in there]
    speeds = {name: interleaved_speed(run, name) for name in running if name != run.record.baseline}
    return tuple(name for name, own in speeds.items() if own.cases >= MIN_CASES and own.half_width <= WIDEST)


def behind(run: Run, claim: Claim, names: Collection[str], looks: int) -> tuple[str, ...]:
    """Those of `names` that would leave for the fastest of them, if its accuracy turned out to be kept.

    They may wait until it is known. That changes the order of what is run alone, and so spends no error. They are those
    alone that would leave at once then, after so many earlier `looks` at complete rounds: one that had to go on would
    need the baseline beside it a second time.
    """
    level = level_after(looks + 1) / max(1, sum(not variant.left for variant in candidates(run)))
    speeds = {name: interleaved_speed(run, name) for name in names}
    timed = [name for name, own in speeds.items() if own.cases]
    if not timed:
        return ()
    fastest = max(timed, key=lambda name: speeds[name].speedup.estimate)
    beside = {name: interleaved_speed(run, name, fastest) for name in timed if name != fastest}
    zone = _zone(run, claim, fastest)
    return tuple(name for name, own in beside.items() if _is_below(own, zone, level))


def is_settled(run: Run, claim: Claim) -> bool:
    """Whether the race has an answer that the confirmation can take up: nobody is left, or one that is sure to meet it.

    That is so where its claim is confirmed whatever the luck of a single launch. One that is near the claim goes on, so
    that its confirmation, of as many rounds, has the power that it needs; and one that is refuted, which has no other.
    """
    racing = [variant.name for variant in candidates(run) if not variant.left]
    return _is_sure(run, claim, racing[0]) if len(racing) == 1 else not racing


def _slow(own: Speed, claim: Claim, level: float) -> str:
    if not _is_below(own, _required(claim), level):
        return ""
    fell = own.reduction.estimate
    change = f"reduced by {percent(fell)}" if fell > 0 else f"increased by {percent(-fell)}"
    return (
        f"slower than the claim beyond doubt after {_samples(own)}: {own.scope} {change}, "
        f"{plain_percent(claim.min_reduction_pct)} required"
    )


def _takes(beside: Speed, leader: str) -> str:
    slower = factor(1 / beside.speedup.estimate)
    return f"after {_samples(beside)}: it takes {slower} the time of {leader}, whose accuracy is kept"


def _zone(run: Run, claim: Claim, leader: str) -> float:
    """How much larger than the leader's a log speedup may be without a difference; 0 where the claim is not sure."""
    return -log(1 - INDIFFERENCE) if _is_sure(run, claim, leader) else 0.0


def _is_below(own: Speed, bound: float, level: float) -> bool:
    """Whether a log speedup is shown to lie below `bound`; NaN, as of fewer than `MIN_CASES` cases, shows nothing."""
    return own.log_speedup.high(level) + _luck(own) < bound


def _luck(own: Speed) -> float:
    return ONE_LAUNCH if own.launches < 2 else 0.0


def _required(claim: Claim) -> float:
    """The log speedup of the claim."""
    return -log(1 - claim.min_reduction_pct / 100)


def _is_sure(run: Run, claim: Claim, name: str) -> bool:
    """Whether its claim is confirmed by the samples of the rounds whatever the luck of a single launch."""
    own = interleaved_speed(run, name)
    return own.log_speedup.low(ALPHA) - _luck(own) >= _required(claim) and _is_confirmed(run, claim, name)


def _is_confirmed(run: Run, claim: Claim, name: str) -> bool:
    speeds = {each.name: interleaved_speed(run, each.name) for each in candidates(run)}
    return judge_speeds(speeds, claim, interim_analyses(run))[name].verdict == CONFIRMED


def _samples(own: Speed) -> str:
    return f"{count(own.pairs, 'pair')} of samples"
