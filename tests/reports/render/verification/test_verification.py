"""The verification report: every criterion with its result, every deviation, nothing invented, nothing beyond it."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reports.decision.verdict import Claim
from reports.records.record import FAILED, INTERRUPTED, PENDING, SKIPPED, ConfirmationRecord, SystemLoad
from reports.records.store import Run
from reports.render import render
from reports.render.verification.criteria import FAIL, OPEN, PASS, criteria
from reports.render.verification.document import conclusion
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, by_agreement, make_run, segmenting, variant
from tests.reports.render.page import Page


def confirmed(**settings: object) -> Run:
    return make_run({"fast": Candidate(4.0, confirmed_speedup=4.2)}, confirmed="fast", **settings)


SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
READ = {
    "verification": lambda: confirmed(required=("gone",)),
    "verification-agreement": lambda: by_agreement(confirmed()),
}


@pytest.mark.parametrize("name", READ)
def test_it_is_as_it_was_read(name: str):
    result, path = render(summarise(READ[name]()), "verification"), SNAPSHOTS / f"{name}.md"
    if os.environ.get("VOXBENCH_UPDATE_SNAPSHOTS"):
        path.write_text(result, encoding="utf-8")
    assert result == path.read_text(encoding="utf-8")


def results(run: Run) -> dict[str, str]:
    return {own.name: own.result for own in criteria(summarise(run))}


def part(run: Run, title: str) -> str:
    return render(summarise(run), "verification").partition(f"## {title}")[2].partition("\n## ")[0]


LOSING = make_run({"fast": Candidate(4.0, lesion=-0.05, confirmed_speedup=4.2)}, confirmed="fast")
LOST = make_run({"fast": Candidate(4.0, lesion=-0.2, confirmed_speedup=4.2)}, confirmed="fast")
SLOW = make_run({"slow": Candidate(1.0, confirmed_speedup=1.0)}, confirmed="slow")


def test_every_criterion_of_a_confirmed_claim_passes():
    assert set(results(confirmed()).values()) == {PASS}
    assert list(results(confirmed()))[1] == "reduction of the case time"


@pytest.mark.parametrize(
    ("run", "criterion", "result"),
    [
        (lambda: LOSING, "change of lesion DSC", FAIL),
        (lambda: SLOW, "reduction of the case time", FAIL),
        (lambda: make_run({"x": Candidate(2.0)}, cases=3), "reduction of the case time", OPEN),
        (lambda: make_run({"x": Candidate(2.0)}), "shown on fresh samples after it was chosen", OPEN),
        (lambda: confirmed(status=INTERRUPTED), "the run came to its end", OPEN),
        (lambda: confirmed(required=("other",)), "the required variant other was measured", FAIL),
        (lambda: segmenting(confirmed()), "change of macro-F1", "not applicable"),
        (lambda: by_agreement(confirmed(cases=36)), "cases of another class", PASS),
        (
            lambda: by_agreement(LOST),
            "lesion worst DSC to the baseline's",
            FAIL,
        ),
        (lambda: make_run({}, baseline=variant(BASELINE, FAILED, "no")), "a variant meets the claim", OPEN),
        (lambda: make_run({"x": Candidate(4.0, lesion=-0.2)}), "a variant meets the claim", FAIL),
    ],
)
def test_what_is_not_shown_does_not_pass(run: Callable[[], Run], criterion: str, result: str):
    assert results(run())[criterion] == result


@pytest.mark.parametrize("name", ["CONFIRMED", "REFUTED", "INCONCLUSIVE"])
def test_criteria_and_verdict_say_the_same(name: str):
    run = {"CONFIRMED": confirmed(), "REFUTED": LOSING, "INCONCLUSIVE": make_run({"x": Candidate(2.0)}, cases=3)}[name]
    summary, came_to = summarise(run), set(results(run).values())
    assert summary.verdict == name
    expected = "REFUTED" if FAIL in came_to else "INCONCLUSIVE" if OPEN in came_to else "CONFIRMED"
    assert expected == name


@pytest.mark.parametrize("run", [confirmed(), LOSING, SLOW, by_agreement(confirmed())], ids=range(4))
def test_the_conclusion_is_the_verdicts_own_sentence(run: Run):
    summary = summarise(run)
    assert summary.headline in conclusion(summary)
    assert "On Example CPU, over 16 cases: " in conclusion(summary)


def test_deviations_are_all_named():
    own = variant("gone", SKIPPED, "the package x is not installed", "pip install x")
    lost = variant("broken", FAILED, "killed by signal 9")
    run = make_run(
        {"fast": Candidate(4.0), "gone": own, "broken": lost, "open": variant("open", PENDING)},
        status=INTERRUPTED, required=("gone",),
    )  # fmt: skip
    said = part(run, "6. Deviations")
    for words in (
        "The run is interrupted: it did not come to its end.",
        "The claim was not declared in a plan before the run.",
        "fast was not timed again on fresh samples",
        "The required variant gone was not measured.",
        "the package x is not installed",
        "killed by signal 9",
    ):
        assert words in said
    assert "did not come to its end" not in part(confirmed(), "6. Deviations")


def test_interference_is_a_deviation():
    run = confirmed()
    own = run.variant("fast")
    busy = tuple(replace(s, system_load=SystemLoad(others=1.5, stolen=0.0, mhz=2000.0)) for s in own.samples[:3])
    changed = replace(own, samples=(*busy, *own.samples[3:]))
    said = part(replace(run, variants=(run.variant(BASELINE), changed)), "6. Deviations")
    assert "Taken while the machine did something else: 3 of 128 timed samples, which are kept." in said


def test_another_claim_than_the_declared_one_is_a_deviation():
    run = confirmed(plan_sha256="ab" * 32)
    run = replace(run, record=replace(run.record, declared="2026-01-01T00:00:00+00:00"))
    assert "declared before the run in plan abababababab on 2026-01-01" in part(run, "3. Method")
    assert "declared" not in part(run, "6. Deviations")
    other = summarise(run, replace(Claim.of(run.record.settings), min_reduction_pct=20.0))
    assert "is not the claim that was declared before the run" in render(other, "verification")


def test_hashes_are_whole_and_what_is_unknown_is_not_stated():
    said = part(replace(confirmed(), sha256="12" * 32), "8. Traceability")
    for value in ("12" * 32, "ab" * 32, "cd" * 32, "ef" * 32):
        assert f"`{value}`" in said
    assert "| the run's record (`run.json`) | *Not stated* |" in part(confirmed(), "8. Traceability")
    purpose = part(confirmed(), "1. Purpose")
    assert re.search(r"intended use +\| \*Not stated\*", purpose)


def test_by_agreement_it_says_so_where_it_counts():
    text = render(summarise(by_agreement(confirmed())), "verification")
    assert "**No ground truth was used.**" in text
    assert "No statement about how right either is" in text
    assert "against the ground truth that" not in text


def test_what_was_not_done_is_not_said_to_be():
    assert "Confirmation: none was taken." in part(make_run({"x": Candidate(2.0)}), "3. Method")
    assert "Confirmation: the winner was timed again" in part(confirmed(), "3. Method")


def test_signatures_are_blank():
    rows = [
        line.split("|")[1:-1] for line in part(confirmed(), "10. Signatures").splitlines() if line.startswith("| p")
    ]
    assert [row[0].strip() for row in rows] == ["prepared by"]
    assert {cell.strip() for row in rows for cell in row[1:]} == {""}


def test_the_page_is_the_same_report_without_anything_from_elsewhere():
    page = Page()
    page.feed(render(summarise(LOSING), "verification-html"))
    assert page.open == []
    for line in ("10. Signatures", "change of lesion DSC", "REFUTED: fast: accuracy lost"):
        assert line in page.text
    assert 'class="lost">fail</td>' in render(summarise(LOSING), "verification-html")


def test_the_order_and_the_end_are_those_of_the_run():
    fixed = part(confirmed(asked=2), "3. Method")
    assert "each case by all variants, one after the other" in fixed
    assert "Stopping: 2 rounds, a number fixed beforehand." in fixed
    assert "budget" not in fixed
    run = confirmed(race=True)
    slow = replace(run.variant("fast"), name="slow", left="beaten beyond doubt")
    planned = ConfirmationRecord(cases=tuple(case.name for case in run.record.cases), launches=3, rounds=3, repeated=5)
    raced = Run(replace(run.record, confirmation=planned), (*run.variants, slow))
    said = part(raced, "3. Method")
    assert "by the baseline and all variants that neither have left nor wait for the accuracy of a faster one" in said
    assert "Left the rounds before their end: slow, beaten beyond doubt." in said
    assert "within a budget of 600 s" in said
    assert "those samples alone, of all 16 cases, 5 of them in every launch and each of the others in one." in said
