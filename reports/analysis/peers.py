"""What is run today beside this run's best: the peers' case times against that of one variant."""

from dataclasses import dataclass, field
from math import isfinite, nan

from reports.decision.accuracy import compare_accuracy
from reports.decision.speed import Speed, case_ns, pairs, speed
from reports.records.record import INTERLEAVED
from reports.records.store import Run
from reports.stats.scores import median


@dataclass(frozen=True, kw_only=True)
class PeerTime:
    """A peer, and one variant's case time against it.

    Attributes:
        median_s: seconds of the peer's median case; NaN where it was not measured.
        time: `speedup` is the peer's case time over the variant's, by the pairs of their samples that lie in the same
            round and case; without pairs where the two were never open together.
        voxel_disagreement: share of the voxels that the peer labels otherwise than the baseline.
        class_flips: cases that it gives another class; None where the network has no classification.
        scored: cases behind these two.
    """

    name: str
    median_s: float = nan
    time: Speed = field(default_factory=Speed)
    voxel_disagreement: float = nan
    class_flips: int | None = None
    scored: int = 0


def peer_times(run: Run, name: str | None) -> tuple[PeerTime, ...]:
    """Every peer of the run that was measured, the fastest first, against variant `name`; None for against nothing."""
    peers = [run.variant(peer) for peer in run.record.peers]
    times = [_peer_time(run, peer.name, name) for peer in peers if peer.counts]
    return tuple(sorted((time for time in times if isfinite(time.median_s)), key=lambda time: time.median_s))


def _peer_time(run: Run, peer: str, name: str | None) -> PeerTime:
    seconds = [sample.case_ns / 1e9 for sample in run.variant(peer).samples if sample.phase == INTERLEAVED]
    measured = name is not None and run.variant(name).counts
    paired = pairs(run, name, INTERLEAVED, peer) if name is not None and measured else ()
    accuracy = compare_accuracy(run, peer)
    flips = len(accuracy.flips) if accuracy.cases and run.record.classifies else None
    return PeerTime(
        name=peer,
        median_s=median(seconds),
        time=speed(paired, case_ns),
        voxel_disagreement=accuracy.voxel_disagreement,
        class_flips=flips,
        scored=accuracy.cases,
    )
