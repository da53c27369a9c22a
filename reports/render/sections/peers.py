"""The report's peers: what is run today beside this run's best."""

from math import nan

from reports import formatting
from reports.analysis.peers import PeerTime
from reports.decision.speed import Speed
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED
from reports.render.commonmark import bullets, section, table, text
from reports.summary.summary import Row, Summary

_EVIDENCE_KEYS = (
    "autocast",
    "mirroring",
    "processes",
    "preprocessing",
    "tiles",
    "weights",
    "batch",
    "accumulation",
    "stages",
)  # of the evidence, beside its ``way``


def peers_section(summary: Summary) -> str:
    """The peers' table; empty for a run without any that was measured."""
    if not summary.peers:
        return ""
    subject = text(summary.subject or "the best variant")
    head = ["peer", "case median", f"its time over that of {subject}", "baseline's time over its", "voxels changed",
            "class flips"]  # fmt: skip
    rows = []
    for peer in summary.peers:
        row = summary.row(peer.name)
        beside = ["reference"] * 3
        if row is None or not row.is_baseline:
            against = row.case.speedup.estimate if row else nan
            changed = formatting.share(peer.voxel_disagreement)
            beside = [formatting.factor(against), changed, _flips_cell(peer, summary.record.classifies)]
        rows.append([text(peer.name), formatting.seconds(peer.median_s), _ratio_cell(peer.time), *beside])
    note = (
        "Peers are what is run elsewhere, with the same weights on the same cases: each by its own reading, tiles, "
        "stitching and writing, so that whole cases are compared. They make no claim, and none is chosen as the best. "
        "The ratios are of neighbouring interleaved samples, their geometric mean over cases; brackets hold the lower "
        "and the upper bound, each with one-sided 95 % confidence. Changed voxels and flips count against the "
        "baseline's output. The controlled settings (below) bind a peer as far as its line here says; "
        "threads, weights, window, tile and overlap are the run's."
    )
    alone = [text(peer.name) for peer in summary.peers if summary.subject and not peer.time.cases]
    apart = f"Never open in one round with {subject}: {', '.join(alone)}." if alone else ""
    descriptions = bullets(
        f"{text(peer.name)}: {text(description)}."
        for peer in summary.peers
        if (description := _description(summary.row(peer.name)))
    )
    return section("Against what is run today", table(head, rows), note, descriptions, apart)


def _description(row: Row | None) -> str:
    """What a peer does, in its own words: those in its evidence."""
    details = row.evidence.details if row and row.evidence else {}
    parts = [f"{name}: {details[name]}" for name in _EVIDENCE_KEYS if name in details]
    return "; ".join(([str(details["way"])] if "way" in details else []) + parts)


def _ratio_cell(time: Speed) -> str:
    ratio = time.speedup
    shown = formatting.factor(ratio.estimate) + formatting.bounds(ratio.low, ratio.high, 2)
    return shown if time.cases else NOT_MEASURED


def _flips_cell(peer: PeerTime, classifies: bool) -> str:
    if not classifies:
        return NOT_APPLICABLE
    return NOT_MEASURED if peer.class_flips is None else f"{peer.class_flips} of {peer.scored}"
