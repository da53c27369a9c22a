"""Time against accuracy: the front, and how it is shown."""

from dataclasses import replace
from typing import Any

from reports.charts.trade_off import trade_off_chart
from reports.records.store import Run
from reports.render.sections.pareto import pareto_section
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, made_of, make_run, without_nsd

VARIANTS = {
    "exact": Candidate(2.0),
    "fast": Candidate(4.0, lesion=-0.05),
    "slower-and-worse": Candidate(3.0, lesion=-0.06),
    "same-speed-worse": Candidate(2.0, lesion=-0.001),
}


def with_recipe(run: Run, name: str, **own: Any) -> Run:
    recipe = made_of(name, recipe=True, **own)
    settings = replace(run.record.settings, variants={**run.record.settings.variants, name: recipe})
    variants = tuple(replace(each, settings=recipe) if each.name == name else each for each in run.variants)
    return replace(run, record=replace(run.record, settings=settings), variants=variants)


def test_the_front_is_what_nothing_beats_in_time_and_accuracy() -> None:
    assert summarise(make_run(VARIANTS)).pareto_front == ("fast", "exact"), "the fastest first"


def test_it_says_which_scores_count() -> None:
    run = with_recipe(make_run(VARIANTS), "fast")
    for own, scores in ((run, "every score but NSD"), (without_nsd(run), "every score")):
        assert f"at least as accurate in {scores}, by the estimates" in pareto_section(summarise(own))
        assert f"at least as near in {scores} as these" in trade_off_chart(summarise(own)).text


def test_equal_rows_are_both_on_the_front() -> None:
    assert summarise(make_run({"a": Candidate(2.0), "b": Candidate(2.0)})).pareto_front == ("a", "b")


def test_a_score_that_one_lacks_is_not_held_against_the_other() -> None:
    run = make_run(VARIANTS)
    unscored = replace(run, variants=tuple(replace(v, scores=()) for v in run.variants))
    assert summarise(unscored).pareto_front == ("fast",), "without scores only the time counts"


def test_the_table_tells_what_each_is_made_of_and_what_fails() -> None:
    run = with_recipe(
        make_run(VARIANTS),
        "fast",
        backend="openvino-int8",
        roi="coarse",
        overlap=0.25,
        batch=4,
        rewrites=("drop-biases",),
    )
    said = pareto_section(summarise(run))
    lines = [line for line in said.splitlines() if line.startswith("|")][2:]
    assert [line.split("|")[1].strip() for line in lines] == [
        "fast", "slower-and-worse", "exact", "same-speed-worse", BASELINE,
    ]  # fmt: skip
    cells = [cell.strip() for cell in lines[0].split("|")[2:-1]]
    assert cells[:5] == ["openvino-int8", "coarse", "0.25", "4", "drop-biases"]
    assert cells[-2:] == ["lost", "yes"]
    assert lines[-1].rstrip(" |").endswith("no")
    assert "Accuracy lost, so not to be used: fast, slower-and-worse." in said


def test_a_run_without_recipes_has_no_such_table() -> None:
    assert pareto_section(summarise(make_run(VARIANTS))) == ""
