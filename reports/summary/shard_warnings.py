"""What a reader should know of a run that was merged of shards, beside its table of them."""

from collections.abc import Iterator, Sequence

from reports.analysis.shards import ShardTimes, farthest_apart, opposite, unlike_evidence
from reports.decision.comparability import machines
from reports.formatting import bounded, count, listed, percent
from reports.records.record import EvidenceRecord, RunRecord


def shard_warnings(record: RunRecord, times: Sequence[ShardTimes], name: str | None) -> tuple[str, ...]:
    """One line each on the shards of a merged run, of which `times` are those of variant `name`."""
    return (*_unlike_machines(record), *_disagreement(times, name), *_unlike_evidence(record))


def numbers(shards: Sequence[int]) -> str:
    """``shard 2``, ``shards 1, 3``"""
    return f"{'shard' if len(shards) == 1 else 'shards'} {listed([str(number) for number in shards])}"


def _unlike_machines(record: RunRecord) -> Iterator[str]:
    unlike = machines(record)
    if len(unlike) > 1:
        yield (
            f"the shards ran on {len(unlike)} unlike machines ({listed(unlike, '; ')}): seconds are over all of them, "
            "and only ratios may be compared"
        )
    elif record.shards and not record.settings.threads:
        yield f"the shards had {record.threads} threads: seconds are over all of them, and only ratios may be compared"


def _disagreement(times: Sequence[ShardTimes], name: str | None) -> Iterator[str]:
    faster, slower = opposite(times)
    apart = farthest_apart(times)
    if faster and slower:
        yield (
            f"{name} is faster than the baseline on {numbers(faster)} and slower on {numbers(slower)}: what holds on "
            "the mean over these machines does not hold on each"
        )
    elif apart is not None:
        ends = [(own.case.reduction, own.shard.number) for own in apart]
        text = " and ".join(f"{bounded(r.estimate, r.low, r.high)} on shard {number}" for r, number in ends)
        yield (
            f"the shards disagree on what {name} saves ({text}), by more than their cases and launches explain; the "
            "bounds of the whole include that"
        )


def _unlike_evidence(record: RunRecord) -> Iterator[str]:
    for name, by_shard in unlike_evidence(record.shards).items():
        kinds: dict[str, list[int]] = {}
        for number, evidence in by_shard.items():
            kinds.setdefault(_ran(evidence), []).append(number)
        text = "; ".join(f"{what} on {numbers(shards)}" for what, shards in kinds.items())
        yield f"{name} did not run alike in {count(len(by_shard), 'shard')}: {text}"


def _ran(evidence: EvidenceRecord) -> str:
    shares = sorted(evidence.mac_share.items(), key=lambda share: -share[1])
    parts = [f"{name} {percent(100 * part)}" for name, part in shares if part > 0]
    return ", ".join((evidence.provider, *parts))
