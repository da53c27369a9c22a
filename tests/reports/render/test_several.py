"""Pages, markdown and JSON on several runs: the same figures in each, whole HTML, and nothing of others' text in it."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.decision.history import History, history
from reports.decision.regression import Regression, regression
from reports.formatting import at_least, at_most, significant
from reports.records.record import FAILED
from reports.records.store import Run
from reports.render.several import FORMATS, render_history, render_regressions
from tests.reports.factory import Candidate, make_run, variant
from tests.reports.render.page import Page

JITTER = (1.0, 1.05, 0.97, 1.02)
HOSTILE = "a|b <script>alert(1)</script> & *c*"


class Tables(HTMLParser):
    """The rows of all tables of a page, each as the texts of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and not re.match(r"\| -+:? \|", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def figures(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", cell)]


def rounded(interval: dict[str, float], scale: float = 1, digits: int = 2, offset: float = 0) -> list[float]:
    """The estimate to the nearest digit, its bounds away from it."""
    estimate, low, high = (scale * (interval[key] - offset) for key in ("estimate", "low", "high"))
    ends = floor(low * 10**digits + 1e-4), ceil(high * 10**digits - 1e-4)
    return [round(estimate, digits) + 0.0, *(end / 10**digits for end in ends)]


def named(run: Run, folder: str, **changes: Any) -> Run:
    return replace(run, folder=Path(folder), record=replace(run.record, **changes))


# --- against a reference ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparisons() -> list[Regression]:
    def made(x: float, y: Candidate | Any, folder: str, **changes: Any) -> Run:
        return named(make_run({"x": Candidate(x, JITTER), "y": y}), folder, **changes)

    reference = made(2.0, Candidate(5.0, JITTER), "runs/reference")
    same = made(2.02, Candidate(4.9, JITTER), "runs/same")
    versions = {**reference.record.versions, "torch": HOSTILE}
    worse = made(1.6, Candidate(5.0, JITTER, lesion=-0.02), "runs/worse", versions=versions)
    lost = made(2.0, variant("y", FAILED, HOSTILE), "runs/lost")
    return [regression(reference, run) for run in (same, worse, lost)]


@pytest.fixture(scope="module")
def compared(comparisons: list[Regression]) -> dict[str, str]:
    return {form: render_regressions(comparisons, form) for form in FORMATS}


def test_the_first_lines_say_what_got_worse_and_by_how_much_at_least(compared: dict[str, str]) -> None:
    page = Page()
    page.feed(compared["html"].partition("<svg")[0])
    document = json.loads(compared["json"])
    ratio = next(own for own in document["runs"][1]["variants"] if own["name"] == "x")["speedup_ratio"]
    least = f"x in runs/worse: the speedup fell by {100 * (1 - ratio['estimate']):.1f} %"
    assert f"{least} (by at least {at_least(100 * (1 - ratio['high']))})" in page.text
    assert "y in runs/worse: lesion DSC -0.0200 (-0.0200 at best)" in page.text
    assert "y in runs/lost: it ran in the reference, and here it failed" in page.text
    assert page.text.count("REGRESSION against runs/reference") == 2, "the window's title and the heading"


def test_where_nothing_got_worse_it_says_how_much_is_still_possible(comparisons: Sequence[Regression]) -> None:
    document = json.loads(render_regressions(comparisons[:1], "json"))
    lows = {own["name"]: own["speedup_ratio"]["low"] for own in document["runs"][0]["variants"][1:]}
    said = f"the speedup fell by at most {at_most(100 * (1 - lows['y']))} (y in runs/same)"
    for form in ("markdown", "html"):
        text = render_regressions(comparisons[:1], form)
        assert said in text
        assert "NO REGRESSION against runs/reference" in text
    assert '<h1 class="kept">' in render_regressions(comparisons[:1], "html")


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_comparisons_have_the_same_figures_in_every_format(compared: dict[str, str], form: str) -> None:
    text = compared[form]
    rows = Tables(text).rows if form == "html" else markdown_rows(text)
    document = json.loads(compared["json"])
    for name in ("x", "y"):
        runs = [next(own for own in run["variants"] if own["name"] == name) for run in document["runs"]]
        speedups, *changes = [row for row in rows if row[0] == name]
        assert figures(speedups[1]) == rounded(runs[0]["speedup"]["reference"])
        for cell, row, own in zip(speedups[2:], changes, runs, strict=True):
            if own["speedup"]["run"]["estimate"] is None:
                assert (cell, row[1], row[2]) == ("not measured", own["state"], "not measured")
                continue
            assert figures(cell) == rounded(own["speedup"]["run"])
            assert row[1] == own["state"]
            assert figures(row[2]) == rounded(own["speedup_ratio"], 100, 1, 1)
            lesion = own["accuracy"]["structures"]["lesion"]["dsc"]
            assert [0.0, *figures(row[5])][-1] == pytest.approx(lesion["low"], abs=5e-5)


def test_the_plot_holds_every_run_of_every_variant(compared: dict[str, str]) -> None:
    text = compared["html"]
    (svg,) = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert [label for label in labels if label in ("reference", "same", "worse", "lost")] == [
        "reference", "same", "worse", "lost",
    ] * 2  # fmt: skip
    assert "not measured: regression" in labels
    described = re.search(r"<desc[^>]*>(.*?)</desc>", svg, re.DOTALL)
    assert described is not None
    assert "worse 1.62x (-20.0 %, regression)" in described[1]
    assert "a fall of 5 % is allowed" in described[1].lower()


def test_what_differs_stands_side_by_side(compared: dict[str, str]) -> None:
    rows = Tables(compared["html"]).rows
    assert ["differs", "reference", "same", "worse", "lost"] in rows
    assert ["version of torch", "2.13.0", "the same", HOSTILE, "the same"] in rows


# --- over many runs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many() -> History:
    """Fourteen runs of which the last six have a slower variant, and one with other weights."""
    noise = np.exp(np.random.default_rng(2).normal(0, 0.008, (14, 2)))
    runs = []
    for i, (x, y) in enumerate(noise):
        run = make_run(
            {"x": Candidate((2.0 if i < 8 else 1.7) * x, JITTER), HOSTILE: Candidate(3.0 * y, JITTER)}, cases=8
        )
        created = f"2026-03-{i + 1:02d}T00:00:00+00:00"
        versions = {**run.record.versions, "torch": "2.13.0" if i < 8 else HOSTILE}
        runs.append(named(run, f"runs/{i:02d}", id=str(i), created=created, versions=versions))
    weights = replace(runs[0].record.checkpoint, weights_sha256="99" * 32)
    runs.append(named(runs[0], "runs/new", id="new", created="2026-04-01T00:00:00+00:00", checkpoint=weights))
    return history(runs, ["runs/broken: cannot be read <b>"])


@pytest.fixture(scope="module")
def followed(many: History) -> dict[str, str]:
    return {form: render_history(many, form) for form in FORMATS}


def test_the_first_line_of_a_history_is_the_change(followed: dict[str, str]) -> None:
    document = json.loads(followed["json"])
    (step,) = document["series"][0]["variants"][0]["change_points"]
    assert (step["before"], step["after"], step["direction"]) == (7, 8, "fell")
    fell = f"{100 * (1 - step['speedup_ratio']['estimate']):.1f} %"
    least = at_least(100 * (1 - step["speedup_ratio"]["high"]))
    assert step["differing"] == [{"name": "version of torch", "before": "2.13.0", "after": HOSTILE}]
    markdown = followed["markdown"].splitlines()
    assert markdown[0] == f"# 1 change of a speedup in 15 runs: x fell by {fell}"
    assert markdown[2].startswith(
        f"- x: the speedup fell by {fell} (by at least {least}) between runs/07 (2026-03-08) and runs/08 (2026-03-09), "
        "on Example CPU, 2 cores. Between the two also changed: version of torch from 2.13.0 to "
    )
    page = Page()
    page.feed(followed["html"])
    assert page.text.count(f"1 change of a speedup in 15 runs: x fell by {fell}") == 2
    assert page.open == []


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_histories_have_the_same_figures_in_every_format(followed: dict[str, str], form: str) -> None:
    text = followed[form]
    rows = Tables(text).rows if form == "html" else markdown_rows(text)
    document = json.loads(followed["json"])
    series, other = document["series"]
    assert [(run["folder"], run["weights_sha256"]) for run in other["runs"]] == [("runs/new", "99" * 32)]
    for place, own in enumerate(series["variants"]):
        newest, level = own["points"][-1], own["levels"][-1]
        row = next(row for row in rows if row[0].replace("\\", "") == own["name"])
        assert figures(row[2]) == rounded(newest["speedup"])
        assert figures(row[3]) == [round(bound, 2) for bound in level["band"]]
        assert row[4] == significant(newest["seconds"])
        for point in own["points"]:
            run = series["runs"][point["run"]]
            *_, speedups, seconds = [row for row in rows if row[:2] == [run["folder"], run["created"][:10]]]
            assert figures(speedups[2 + place]) == rounded(point["speedup"])
            assert seconds[2] == significant(run["baseline_seconds"])
            assert seconds[3 + place] == significant(point["seconds"])
            assert ("fell" in speedups[2 + place]) == any(c["after"] == point["run"] for c in own["change_points"])


def test_a_history_has_a_chart_for_each_trend_with_its_words(followed: dict[str, str]) -> None:
    text = followed["html"]
    descriptions = re.findall(r'<desc id="(trend-\d-\d)-text">(.*?)</desc>', text, re.DOTALL)
    assert [name for name, _ in descriptions] == ["trend-1-1", "trend-1-2"], "none of a single run"
    assert "1 change point: it fell by" in descriptions[0][1]
    assert "no change point" in descriptions[1][1]
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_a_history_of_few_runs_says_so(many: History) -> None:
    few = replace(many, series=many.series[1:], notes=())
    assert render_history(few, "markdown").startswith("# Too few runs to look for changes: 1 run in 1 series\n")


@pytest.mark.parametrize("form", FORMATS)
def test_documents_are_the_same_every_time(
    comparisons: Sequence[Regression], many: History, compared: dict[str, str], followed: dict[str, str], form: str
) -> None:
    assert render_regressions(comparisons, form) == compared[form]
    assert render_history(many, form) == followed[form]


def test_text_of_others_stays_text(compared: dict[str, str], followed: dict[str, str]) -> None:
    for text in (compared["html"], followed["html"]):
        page = Page()  # which refuses scripts
        page.feed(text)
        assert page.open == []
        assert HOSTILE in page.text
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), "nothing is fetched"
    for text in (compared["markdown"], followed["markdown"]):
        assert not re.search(r"(?<!\\)<script", text)
