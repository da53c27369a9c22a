"""What is run today beside this run's best: the peers' case times against that of one backend."""

from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING

from reports import formatting
from reports.decision.comparison import Speed, case_ns, pairs, parity, speed
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED
from reports.records.record import DUEL, FAILED, SKIPPED
from reports.records.store import Run
from reports.render.commonmark import bullets, section, table, text
from reports.stats.scores import median

if TYPE_CHECKING:
    from reports.summary import Row, Summary

_TOLD = (
    "autocast",
    "preprocessing",
    "tiles",
    "weights",
    "batch",
    "accumulation",
    "stages",
)  # of the evidence, beside its ``way``


@dataclass(frozen=True)
class PeerTime:
    """A peer, and one backend's case time against it.

    Attributes:
        median_s: seconds of the peer's median case; NaN where it was not measured.
        time: `speedup` is the peer's case time over the backend's, by the pairs of their samples that lie in the same
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
    """Every peer of the run that was measured, the fastest first, against backend `name`; None for against nothing."""
    peers = [run.backend(peer) for peer in run.record.peers]
    found = [_peer_time(run, peer.name, name) for peer in peers if peer.status not in (SKIPPED, FAILED)]
    return tuple(sorted((one for one in found if isfinite(one.median_s)), key=lambda one: one.median_s))


def _peer_time(run: Run, peer: str, name: str | None) -> PeerTime:
    seconds = [sample.case_ns / 1e9 for sample in run.backend(peer).samples if sample.phase == DUEL]
    measured = name is not None and run.backend(name).status not in (SKIPPED, FAILED)
    paired = pairs(run, name, DUEL, peer) if name is not None and measured else ()
    found = parity(run, peer)
    flips = len(found.flips) if found.cases and run.record.classifies else None
    return PeerTime(peer, median(seconds), speed(paired, case_ns), found.voxel_disagreement, flips, found.cases)


def peers_section(summary: "Summary") -> str:
    """The peers' table; empty for a run without any that was measured."""
    if not summary.peers:
        return ""
    subject = text(summary.subject or "the best backend")
    head = ["peer", "case median", f"its time over that of {subject}", "baseline's time over its", "voxels changed",
            "class flips"]  # fmt: skip
    rows = []
    for one in summary.peers:
        row = summary.row(one.name)
        against = row.case.speedup.estimate if row else nan
        rows.append([
            text(one.name), formatting.seconds(one.median_s), _ratio(one.time), formatting.factor(against),
            formatting.share(one.voxel_disagreement), _flips(one, summary.record.classifies),
        ])  # fmt: skip
    note = (
        "Peers are what is run elsewhere, with the same weights on the same cases: each by its own reading, tiles, "
        "stitching and writing, so that whole cases are compared. They make no claim, and none is chosen as the best. "
        "The ratios are of neighbouring samples in the duels, their geometric mean over cases; brackets hold the lower "
        "and the upper bound, each with one-sided 95 % confidence. Changed voxels and flips count against the "
        "baseline's output. What is held equal between the backends (below) binds a peer as far as its line here says; "
        "threads, weights, window, tile and overlap are the run's."
    )
    alone = [text(one.name) for one in summary.peers if summary.subject and not one.time.cases]
    apart = f"Never open in one round with {subject}: {', '.join(alone)}." if alone else ""
    ways = bullets(f"{text(one.name)}: {text(way)}." for one in summary.peers if (way := _way(summary.row(one.name))))
    return section("Against what is run today", table(head, rows), note, ways, apart)


def _way(row: "Row | None") -> str:
    """What a peer does, in its own words: those in its evidence."""
    details = (row.evidence.get("details") or {}) if row else {}
    told = [f"{name}: {details[name]}" for name in _TOLD if name in details]
    return "; ".join(([str(details["way"])] if "way" in details else []) + told)


def _ratio(found: Speed) -> str:
    ratio = found.speedup
    bounds = f" [{ratio.low:.2f}, {ratio.high:.2f}]" if isfinite(ratio.low) else ""
    return f"{formatting.factor(ratio.estimate)}{bounds}" if found.cases else NOT_MEASURED


def _flips(one: PeerTime, classifies: bool) -> str:
    if not classifies:
        return NOT_APPLICABLE
    return NOT_MEASURED if one.class_flips is None else f"{one.class_flips} of {one.scored}"
