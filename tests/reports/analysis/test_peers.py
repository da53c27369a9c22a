"""What is run today beside the best: its ratios, and that it makes no claim."""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import isnan

import pytest

from reports.analysis.peers import peer_times
from reports.decision.comparison import candidates
from reports.decision.outcome import choose, converged
from reports.decision.regression import regression
from reports.decision.speed import case_ns, pairs, speed
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, Claim
from reports.formatting import bounds
from reports.records.record import FAILED, INTERLEAVED, SKIPPED, EvidenceRecord, VariantRecord
from reports.records.store import RecordError, Run, run_from_json, write_json
from reports.render import render
from reports.render.csv_tables import cases_csv
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, make_run, segmenting, variant

BEST, SLOW, FAST = "openvino-int8", "peer-monai-fp32", "peer-nnunet"
OURS = {BEST: Candidate(4.0, (1.0, 1.03), confirmed_speedup=3.9), "torch-compile": Candidate(2.0)}
WAY = EvidenceRecord(
    "torch cpu", {"fp32": 1.0}, {"batch": 1, "way": "reader, predictor, export", "tiles": "its own", "threads": 2}
)
PEERS = {SLOW: Candidate(0.5), FAST: Candidate(8.0, (1.0, 1.02), -7e-4, flips=1, evidence=WAY)}


def run_of(peers: Mapping[str, Candidate | VariantRecord], **options) -> Run:
    run = make_run(OURS | peers, confirmed=BEST, **options)
    return replace(run, record=replace(run.record, peers=tuple(peers)))


def with_variant(run: Run, name: str, **changes) -> Run:
    return replace(run, variants=tuple(replace(b, **changes) if b.name == name else b for b in run.variants))


def test_the_ratio_is_the_peers_time_over_the_bests():
    fast, slow = peer_times(run_of(PEERS), BEST)
    assert (fast.name, slow.name) == (FAST, SLOW), "the fastest first"
    assert slow.time.speedup.estimate == pytest.approx(8, rel=0.05)
    assert slow.time.speedup.low < slow.time.speedup.estimate < slow.time.speedup.high
    assert fast.time.speedup.high < 1, "a peer that is faster is shown as such"
    assert (slow.time.cases, slow.time.pairs) == (16, 32)
    assert (slow.voxel_disagreement, slow.class_flips) == (0, 0)
    assert (fast.voxel_disagreement, fast.class_flips) == (pytest.approx(150 / 774_144), 1)
    assert slow.median_s == pytest.approx(2 * 0.8 * 1.75, rel=0.05)


def test_ratios_hold_as_speedups_do():
    """With the run's baseline as the peer the ratio is the best's speedup over it, bounds and all."""
    run = make_run(OURS)
    (result,) = peer_times(replace(run, record=replace(run.record, peers=(BASELINE,))), BEST)
    assert result.time == speed(pairs(run, BEST, INTERLEAVED), case_ns)


def test_a_peer_makes_no_claim():
    """Whatever it reaches, the verdict, the choice and the other rows are those of a run without it."""
    alone, beside = run_of({}), run_of(PEERS)
    claim = Claim.of(alone.record.settings)
    assert [each.name for each in candidates(beside)] == list(OURS)
    assert (choose(alone, claim), choose(beside, claim)) == (BEST, BEST)
    assert converged(beside, claim) == converged(alone, claim)
    without, summary = summarise(alone), summarise(beside)
    assert (summary.verdict, summary.best, summary.subject) == (CONFIRMED, BEST, BEST)
    assert (summary.headline, summary.reasons, summary.requirements) == (
        without.headline, without.reasons, without.requirements,
    )  # fmt: skip
    assert summary.row(BEST) == without.row(BEST), "nor is a row's test one of more"
    row = summary.row(FAST)
    assert (row.is_peer, row.verdict, row.reasons, row.test, row.status) == (True, None, (), None, "ok")
    assert row.case.speedup.estimate == pytest.approx(8, rel=0.05)
    assert row.accuracy.cases == 16


def test_a_claim_about_a_peer_is_refused():
    run = run_of(PEERS)
    with pytest.raises(RecordError, match=r"peer-nnunet is a peer and makes no claim; name one of openvino-int8"):
        summarise(run, replace(Claim.of(run.record.settings), variant=FAST))


def test_the_ratios_are_those_of_the_backend_that_is_named():
    run = run_of(PEERS)
    summary = summarise(run, replace(Claim.of(run.record.settings), variant="torch-compile"))
    assert {each.name: each.time.speedup.estimate for each in summary.peers} == {
        FAST: pytest.approx(0.25, rel=0.05), SLOW: pytest.approx(4, rel=0.05),
    }  # fmt: skip


def test_peers_alone_prove_nothing():
    run = make_run({SLOW: Candidate(0.5)})
    summary = summarise(replace(run, record=replace(run.record, peers=(SLOW,))))
    assert summary.verdict == INCONCLUSIVE
    assert "only peers ran beside it" in summary.reasons[0]
    assert [(each.name, each.time.cases) for each in summary.peers] == [(SLOW, 0)]
    assert "not measured" in render(summary, "markdown").partition("## Against what is run today")[2][:700]


def test_a_peer_that_did_not_run_is_a_row_with_its_reason():
    skip = variant(SLOW, SKIPPED, "the package monai is not installed", 'pip install ".[peers]"')
    summary = summarise(run_of({SLOW: skip, FAST: variant(FAST, FAILED, "it broke")}))
    assert summary.peers == ()
    document = render(summary, "markdown")
    assert "Against what is run today" not in document
    assert "the package monai is not installed" in document.partition("## Skipped variants")[2]
    assert "it broke" in document.partition("## Failed variants")[2]


def test_a_best_that_did_not_run_has_no_ratio():
    run = with_variant(run_of(PEERS), BEST, status=FAILED)
    assert all(not each.time.cases and isnan(each.time.speedup.estimate) for each in peer_times(run, BEST))


def test_samples_of_other_rounds_are_no_pairs():
    run = run_of(PEERS)
    later = tuple(replace(each, round=each.round + 2) for each in run.variant(SLOW).samples)
    summary = summarise(with_variant(run, SLOW, samples=later))
    assert {each.name: each.time.cases for each in summary.peers} == {FAST: 16, SLOW: 0}
    assert f"Never open in one round with {BEST}: {SLOW}." in render(summary, "markdown")


def test_the_section_and_its_rows():
    summary = summarise(run_of(PEERS))
    document = render(summary, "markdown")
    section = document.partition("## Against what is run today\n\n")[2].partition("\n\n")[0].splitlines()
    head, slow = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (section[0], section[3]))
    assert head[2] == f"its time over that of {BEST}"
    assert "\n- peer-nnunet: reader, predictor, export; tiles: its own; batch: 1.\n" in document
    ratio = summary.peers[1].time.speedup
    assert slow == [
        SLOW, "2.80 s", f"{ratio.estimate:.2f}x{bounds(ratio.low, ratio.high, 2)}", "0.50x", "0 %", "0 of 16",
    ]  # fmt: skip
    variants = document.partition("## Variants")[2].partition("\n## ")[0]
    assert SLOW not in variants
    assert BEST in variants
    assert SLOW in document.partition("## Where the time goes")[2], "where its time goes is shown beside the others'"
    assert "<h3>Against what is run today</h3>" in render(summary, "html")
    assert FAST in render(summary, "csv")
    assert FAST in cases_csv(run_of(PEERS))


def test_a_network_without_classes_has_no_flips():
    summary = summarise(segmenting(run_of(PEERS)))
    assert [each.class_flips for each in summary.peers] == [None, None]
    assert "not applicable" in render(summary, "markdown").partition("## Against what is run today")[2].splitlines()[4]


def test_the_ratios_as_json():
    summary = summarise(run_of(PEERS))
    result = json.loads(render(summary, "json"))
    assert result["peers"]["of"] == BEST
    assert [each["name"] for each in result["peers"]["times"]] == [FAST, SLOW]
    assert result["peers"]["times"][1]["ratio"] == vars(summary.peers[1].time.speedup)
    assert {each["name"]: each["is_peer"] for each in result["variants"]} == {
        BASELINE: False, **dict.fromkeys(OURS, False), **dict.fromkeys(PEERS, True),
    }  # fmt: skip


def test_the_record_keeps_its_peers(tmp_path):
    write_json(tmp_path / "run.json", run_of(PEERS).record)
    document = json.loads((tmp_path / "run.json").read_text())
    assert run_from_json(document).peers == (SLOW, FAST)
    assert run_from_json({name: value for name, value in document.items() if name != "peers"}).peers == ()


def held_against(run: Run, name: str) -> Run:
    """The run with `name` in the place of the baseline, and that of old among the others."""
    others = (BASELINE, *run.record.settings.variants)
    variants = {name: run.record.settings.variants[name], **run.record.settings.variants}
    record = replace(
        run.record, baseline=name, baseline_chosen=True, settings=replace(run.record.settings, variants=variants)
    )
    assert len(set(others)) == len(variants)
    return replace(run, record=record, variants=tuple(run.variant(each) for each in variants))


def test_a_peer_as_the_baseline_is_what_all_are_held_against():
    run = held_against(run_of(PEERS), SLOW)
    assert [each.name for each in candidates(run)] == [BASELINE, *OURS], "plain PyTorch is one of the others"
    summary = summarise(run)
    assert summary.headline.endswith(f" (baseline: {SLOW})")
    assert summary.row(BEST).case.speedup.estimate == pytest.approx(8, rel=0.05)
    assert summary.row(BASELINE).verdict is not None
    document = render(summary, "markdown")
    variants = document.partition("## Variants")[2].partition("\n## ")[0]
    assert [cell.strip() for cell in variants.partition(f"| {SLOW} ")[2].split("|")[1:3]] == ["baseline", "reference"]
    assert FAST not in variants
    peers = document.partition("## Against what is run today")[2].partition("\n## ")[0]
    (line,) = (line for line in peers.splitlines() if f"| {SLOW} |" in line)
    assert [cell.strip() for cell in line.split("|")[-4:-1]] == ["reference"] * 3
    assert SLOW in {change.name for change in regression(run, run).changes}
    with pytest.raises(RecordError, match=f"{SLOW} is the baseline"):
        summarise(run, replace(Claim.of(run.record.settings), variant=SLOW))


def test_a_baseline_that_is_lossy_is_said_to_be():
    def notes(evidence: EvidenceRecord) -> list[str]:
        run = run_of(PEERS | {FAST: Candidate(8.0, evidence=evidence)})
        return [note for note in summarise(held_against(run, FAST)).warnings if "lossy" in note]

    (note,) = notes(EvidenceRecord("torch cuda", {"fp16": 0.97, "fp32": 0.03}))
    assert note.startswith(f"the baseline {FAST} is lossy itself (FP16 in 97 % of its multiply-accumulates): ")
    assert notes(EvidenceRecord("torch cpu", {"fp32": 1.0})) == []


def test_a_slower_peer_is_no_regression():
    before, now = run_of(PEERS), run_of(PEERS | {SLOW: Candidate(0.1)})
    result = regression(before, now)
    assert {change.name for change in result.changes} == {BASELINE, *OURS}
    assert result.state == regression(before, before).state
