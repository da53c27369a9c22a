"""A variant that left the rounds before it had all cases: its own medians and scores are of fewer than the others'."""

from dataclasses import replace

from reports.records.record import INTERLEAVED
from reports.records.store import Run
from reports.render import render
from reports.render.summary_json import summary_json
from reports.summary.summarise import summarise
from tests.reports.factory import Candidate, make_run


def left_early(run: Run, name: str, cases: int) -> Run:
    def cut(variant):
        if variant.name != name:
            return variant
        kept = [sample for sample in variant.samples if sample.phase == INTERLEAVED and sample.round == 0][:cases]
        had = {sample.case for sample in kept}
        scores = tuple(score for score in variant.scores if score.case in had)
        return replace(variant, samples=tuple(kept), scores=scores, left="beaten beyond doubt after 5 pairs of samples")

    return replace(run, variants=tuple(map(cut, run.variants)))


def test_it_says_so_and_is_on_no_front() -> None:
    run = make_run({"fast": Candidate(3.0), "faster": Candidate(4.0, lesion=0.001)}, cases=16)
    whole, cut = summarise(run), summarise(left_early(run, "faster", 5))
    assert whole.pareto_front == ("faster",)
    assert cut.pareto_front == ("fast",)
    rows = {row["name"]: row["few_cases"] for row in summary_json(cut)["variants"]}
    assert rows == {"torch-fp32": None, "fast": None, "faster": 5}
    assert [cut.row(name).of_cases for name in ("fast", "faster")] == ["", " (5 cases)"]
    document = render(cut, "markdown")
    times = document.partition("## Case times")[2].partition("\n## ")[0]
    assert "| faster (5 cases) |" in times
    assert "(5 cases)" not in render(whole, "markdown")


def test_the_front_of_a_table_says_that_it_leaves_it_out() -> None:
    run = make_run({"fast": Candidate(3.0), "faster": Candidate(4.0, lesion=0.001)}, cases=16)
    named = {name: replace(own, recipe=name == "fast") for name, own in run.record.settings.variants.items()}
    run = replace(run, record=replace(run.record, settings=replace(run.record.settings, variants=named)))
    said = "nothing else in this table that was timed on all cases is at least as fast"
    assert said in render(summarise(left_early(run, "faster", 5)), "markdown")
    assert said not in render(summarise(run), "markdown")
