"""Documents of tasks with many structures, and with names that are marks of the documents' own languages."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from reports.decision.accuracy import columns, metric_keys
from reports.records.record import Roi, StructureRecord
from reports.records.store import Run
from reports.render import render
from reports.render.commonmark import text
from reports.render.csv_tables import cases_csv
from reports.render.summary_json import summary_json
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, make_run, of_structures
from tests.reports.render.page import Page

MANY = {f"part {n:03d}": StructureRecord(labels=(n,), nsd_tolerance_mm=2.0, critical=n < 4) for n in range(1, 106)}
HOSTILE = (
    "<script>alert(1)</script>", "a|b", "[x](https://example.org)", "&lt;b&gt;", "left kidney", "left-kidney",
    "Left Kidney", "`code`", "=1+1", "naïve *ß*", "two\n\n# lines\x1b[0m", "</details>", "- - -", "_",
)  # fmt: skip


def many(**changes: float | tuple[float, ...]) -> Run:
    """105 structures; a candidate's scores of some change."""
    run = make_run({"fast": Candidate(4.0, confirmed_speedup=4.0), "faster": Candidate(5.0)}, confirmed="fast")
    return of_structures(run, MANY, {name.replace("_", " "): by for name, by in changes.items()})


def section(document: str, title: str) -> str:
    return document.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_of_many_structures_the_worst_are_shown_and_the_rest_folded() -> None:
    summary = summarise(many(part_042=-0.02, part_007=(-0.02, 0.012), part_099=-0.001))
    document = render(summary, "markdown")
    assert summary.verdict == "REFUTED"
    assert "accuracy lost: part-042 DSC fell by 0.0200 (margin 0.005); part-042 NSD fell by" in document
    shown, _, folded = section(document, "Accuracy").partition("<details>")
    head = shown.splitlines()[1]
    assert [f"part-{n} {kind}" in head for n in ("042", "007", "099") for kind in ("DSC", "NSD")] == [True] * 6
    assert head.count("value, delta [low]") == 8 + 1, "and macro-F1"
    rows = [line for line in folded.splitlines() if line.startswith("| part-")]
    assert len(rows) == 210
    assert "(DSC 0.005, NSD 0.01, macro-F1 0.02)" in folded
    bold = [line.split(" | ")[0] for line in rows if line.count("**0.795, -0.0200 [-0.0200]**") == 2]
    assert bold == ["| part-042 DSC", "| part-042 NSD"], "what is lost, and nothing else"
    assert folded.count("**") == 8
    assert section(document, "What these cases could have detected").count("| part-") > 210
    assert max(map(len, document.splitlines())) < 2500, "lines that people can read"
    page = Page()
    page.feed(render(summary, "html"))
    assert page.open == []
    assert page.tags.count("details") == page.tags.count("summary") == 2 + 1 + 6, "of tables, the cases, and the topics"
    assert "details>" not in page.text


def test_json_csv_and_junit_hold_all_of_many_structures() -> None:
    run = many(part_042=-0.02)
    summary = summarise(run)
    fast = next(row for row in summary_json(summary)["variants"] if row["name"] == "fast")
    states = {name: own["dsc"]["state"] for name, own in fast["accuracy"]["structures"].items()}
    assert (len(states), [name for name, state in states.items() if state == "lost"]) == (105, ["part 042"])
    (first, *_) = csv.DictReader(io.StringIO(cases_csv(run)))
    assert sum(name.endswith(("_dsc", "_nsd")) for name in first) == 210
    said = ET.fromstring(render(summary, "junit")).findtext(".//testcase[@name='fast']/system-out") or ""
    assert said.count(" NSD ") >= 105
    assert "lost: part-042 DSC fell by 0.0200" in said
    assert len(summary.row("fast").reasons[0]) < 1500


def test_a_roi_must_lose_nothing_of_what_is_critical() -> None:
    def cropped(name: str) -> str:
        run = many()
        outside = {name: 7, "part 100": 9}
        variants = [
            replace(
                variant,
                samples=tuple(replace(s, roi=Roi(((0, 8, 0, 8, 0, 8),), False, 1, 1, 0)) for s in variant.samples),
                scores=tuple(
                    replace(s, structures={n: replace(o, outside=outside.get(n, 0)) for n, o in s.structures.items()})
                    for s in variant.scores
                ),
            )
            for variant in run.variants
        ]
        return section(render(summarise(replace(run, variants=tuple(variants))), "markdown"), "ROI")

    lost = cropped("part 002")
    assert "fast fails the safety: part 002 voxels lost in 16 cases" in lost
    assert "a voxel of the part 001 or part 002 or part 003 fails the safety" in lost
    assert lost.splitlines()[1].count("voxels outside") == 8
    assert len([line for line in lost.partition("<details>")[2].splitlines() if line.startswith("| part ")]) == 105
    assert "fails the safety:" not in cropped("part 050")


def test_names_are_data_in_every_document() -> None:
    structures = {name: StructureRecord(labels=(n,), dsc_target=0.9) for n, name in enumerate(HOSTILE, 1)}
    run = of_structures(make_run({"fast": Candidate(4.0, confirmed_speedup=4.0)}, confirmed="fast"), structures, {})
    run = replace(run, record=replace(run.record, task=replace(run.record.task, name=HOSTILE[0])))
    summary = summarise(run)
    assert summary.verdict == "CONFIRMED"
    for line in render(summary, "markdown").splitlines():
        assert not line.startswith(("# lines", "<script", "- - -"))
    page = Page()
    page.feed(html := render(summary, "html"))
    assert page.open == []
    assert page.tags.count("h1") == 1
    assert set(re.findall(r'<a [^>]*href="(.)', html)) == {"#"}
    assert "<em>ß" not in html
    for name in HOSTILE:
        assert "-".join(name.replace("`", "").replace("\x1b", "").split()) in page.text, name
    names = columns(run.record.task)
    assert len({name.casefold() for name in names.values()}) == len(names) == len(metric_keys(run.record.task))
    assert all(name.replace("_", "a").isalnum() for name in names.values())
    assert names[metric_keys(run.record.task)[5]] == "left_kidney_2_dsc"
    (first, *_) = csv.DictReader(io.StringIO(cases_csv(run)))
    assert set(names.values()) - {"macro_f1"} <= first.keys()
    ET.fromstring(render(summary, "junit"))


@pytest.mark.parametrize("name", ["# a", "> a", "- a", "[a](b)", "&amp;", "a_b", "_a_", "<b>", "1 | 2"])
def test_text_is_shown_as_it_is(name: str) -> None:
    from markdown_it import MarkdownIt

    page = Page()
    page.feed(MarkdownIt("commonmark", {"html": False}).render(text(name)))
    assert page.text.strip() == name
    assert page.tags == ["p"]


def test_requirements_follow_the_tasks_targets() -> None:
    structures = {
        "liver": StructureRecord(labels=(1,), nsd_tolerance_mm=2.0, nsd_target=0.85),
        "spleen": StructureRecord(labels=(2,), dsc_target=0.8, predicted=False),
        "kidney": StructureRecord(labels=(3,), dsc_target=0.8),
    }
    run = make_run({"fast": Candidate(4.0, confirmed_speedup=4.0)}, confirmed="fast")
    run = of_structures(run, structures, {"liver": 0.001})
    run = replace(run, record=replace(run.record, task=replace(run.record.task, f1_target=None)))
    summary = summarise(run)
    asked = [(own.label, own.target, own.met, own.applicable) for own in summary.requirements]
    assert asked[:-1] == [
        ("spleen DSC", 0.8, None, False),
        ("kidney DSC", 0.8, True, True),
        ("liver NSD", 0.85, False, True),
    ]
    assert [row["name"] for row in summary_json(summary)["requirements"]][:-1] == [
        "spleen_dsc", "kidney_dsc", "liver_nsd",
    ]  # fmt: skip
    assert "| >= 0.85" not in render(summarise(make_run({"fast": Candidate(4.0)})), "markdown")
    assert BASELINE in section(render(summary, "markdown"), "Requirements")
