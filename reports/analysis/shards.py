"""The shards of a merged run side by side: what each machine alone shows of one variant, and where they disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from reports.decision.speed import Speed, by_shard, case_ns, pairs, speed
from reports.records.record import INTERLEAVED, EvidenceRecord, ShardRecord
from reports.records.store import Run
from reports.stats.bootstrap import ALPHA
from reports.stats.scores import median


@dataclass(frozen=True, kw_only=True)
class ShardTimes:
    """A shard's own figures.

    Attributes:
        baseline_s: median seconds of its interleaved cases by the baseline.
        case: the variant's case time against the baseline's, by this shard's samples alone.
    """

    shard: ShardRecord
    baseline_s: float
    case: Speed


def shard_times(run: Run, name: str | None, phase: str) -> tuple[ShardTimes, ...]:
    """Each shard of a merged run, and of variant `name` its samples of `phase`; empty of another run."""
    timed = name is not None and run.variant(name).counts
    paired = by_shard(pairs(run, name, phase)) if name is not None and timed else {}
    baseline = [s for s in run.variant(run.record.baseline).samples if s.phase == INTERLEAVED]
    return tuple(
        ShardTimes(
            shard=shard,
            baseline_s=median([s.case_ns / 1e9 for s in baseline if s.shard == shard.number]),
            case=speed(paired.get(shard.number, ()), case_ns),
        )
        for shard in run.record.shards
    )


def opposite(times: Sequence[ShardTimes]) -> tuple[list[int], list[int]]:
    """The numbers of the shards that show the variant faster than the baseline, and of those that show it slower.

    By the bounds of all shards together: each has its share of the error rate (Bonferroni).
    """
    bounds = _joint_bounds(times)
    faster = [number for number, (low, _) in bounds.items() if low > 0]
    return faster, [number for number, (_, high) in bounds.items() if high < 0]


def farthest_apart(times: Sequence[ShardTimes]) -> tuple[ShardTimes, ShardTimes] | None:
    """The shards of the largest and of the smallest speedup, where their bounds do not overlap; None where they do.

    The bounds are those of all shards together, as in `opposite`.
    """
    bounds = _joint_bounds(times)
    if not bounds:
        return None
    lows, highs = ({number: each[i] for number, each in bounds.items()} for i in (0, 1))
    most, least = max(lows, key=lows.__getitem__), min(highs, key=highs.__getitem__)
    by_number = {own.shard.number: own for own in times}
    return (by_number[most], by_number[least]) if lows[most] > highs[least] else None


def unlike_evidence(shards: Sequence[ShardRecord]) -> Mapping[str, Mapping[int, EvidenceRecord]]:
    """The variants that did not run by the same runtime in the same precisions everywhere, with what ran by shard."""
    names = dict.fromkeys(name for shard in shards for name in shard.evidence)
    by_variant = {name: {s.number: s.evidence[name] for s in shards if name in s.evidence} for name in names}
    return {name: own for name, own in by_variant.items() if any(e != next(iter(own.values())) for e in own.values())}


def _joint_bounds(times: Sequence[ShardTimes]) -> dict[int, tuple[float, float]]:
    """Bounds of each shard's log speedup; none of a shard of too few cases."""
    alpha = ALPHA / max(1, len(times))
    logs = {own.shard.number: own.case.log_speedup for own in times}
    bounds = {number: (own.low(alpha), own.high(alpha)) for number, own in logs.items()}
    return {number: own for number, own in bounds.items() if isfinite(own[0])}
