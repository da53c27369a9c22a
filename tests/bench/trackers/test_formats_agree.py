"""All formats agree: verdict, bounds and scores of a run are the same wherever they are read.

Numbers are compared as they are where a format holds numbers, and as `reports.formatting` prints them where it holds
words.
"""

import csv
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bench.trackers import mlflow_store
from bench.trackers.documents import documents
from reports import formatting
from reports.decision.accuracy import columns
from reports.formatting import NOT_APPLICABLE
from reports.records.record import AGREEMENT, SKIPPED
from reports.records.store import Run, read_run
from reports.render import render, render_folder
from reports.render.commonmark import text as escaped
from reports.render.exchange.model_card import NAMESPACE
from reports.render.exchange.tracking import tracked
from reports.summary.summarise import summarise
from tests.reports.factory import Candidate, by_agreement, make_run, segmenting, variant

pytestmark = pytest.mark.xdist_group("mlflow")

RESULTS = Path(__file__).parents[3] / "docs" / "results"
SKIP = variant("tensorrt-fp16", SKIPPED, "the package tensorrt is not installed", "pip install it")


def confirmed() -> Run:
    candidates = {
        "torch-compile": Candidate(2.4), "openvino-int8": Candidate(5.4, (1.0, 1.03), -7e-4, (0.002, -0.001),
                                                                    confirmed_speedup=5.3),
        "shifted": Candidate(3.0, lesion=-0.05, flips=2), SKIP.name: SKIP,
    }  # fmt: skip
    return make_run(candidates, confirmed="openvino-int8")


MADE: dict[str, Callable[[], Run]] = {
    "confirmed": confirmed,
    "refuted": lambda: make_run({"torch-fp32#2": Candidate(1.0)}),
    "few": lambda: make_run({"torch-amp": Candidate(2.0)}, cases=3, subtypes=False),
    "segmenting": lambda: segmenting(confirmed()),
    "agreement": lambda: by_agreement(confirmed()),
    "no-subject": lambda: make_run({"shifted": Candidate(3.0, lesion=-0.05)}),
}
COMMITTED = ("abdomen-16", "demo-brain", "gpu-h100-first", "bodies-width32", "peers-width32-vnni")


class Text(HTMLParser):
    """What a page says, without scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        self.parts += [data] * (not self._hidden)


def said(page: str) -> str:
    reader = Text()
    reader.feed(page)
    return " ".join(" ".join(reader.parts).split())


class Formats:
    """One run in every format."""

    def __init__(self, run: Run, name: str, uri: str) -> None:
        self.run, self.summary, self.name = run, summarise(run), name
        every = documents(run, self.summary)
        self.json = json.loads(every["report.json"])
        self.markdown, self.html = every["report.md"].decode(), said(every["report.html"].decode())
        self.csv = list(csv.DictReader(io.StringIO(render(self.summary, "csv"))))
        self.junit = ET.fromstring(render(self.summary, "junit"))
        self.card = ET.fromstring(render(self.summary, "model-card"))
        self.verification = render(self.summary, "verification")
        self.verification_page = said(render(self.summary, "verification-html"))
        files = render_folder(self.summary, "parquet")
        self.parquet = {each: pq.read_table(io.BytesIO(content)) for each, content in files.items()}
        mlflow_store.log(tracked(run, self.summary), {}, uri=uri, experiment=name, again=True)

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.json["variants"]}

    @property
    def subject_speed(self) -> dict[str, float]:
        """The subject's reduction on which the verdict rests."""
        own = self.variants[self.json["subject"]]["time_reduction_pct"]
        confirmation = self.json["confirmation"]
        return confirmation["time_reduction_pct"] if confirmation else own

    def scores(self, name: str) -> dict[str, dict[str, Any]]:
        """Of a variant by the columns of the tables, as the JSON has them."""
        accuracy = self.variants[name]["accuracy"]
        return {
            column: accuracy["structures"][key.structure][key.kind] if key.structure else accuracy[key.kind]
            for key, column in columns(self.run.record.task, self.run.record.settings.accuracy).items()
        }


@pytest.fixture(scope="module", params=[*MADE, *COMMITTED])
def formats(request: pytest.FixtureRequest, store: Path) -> Formats:
    name = request.param
    run = MADE[name]() if name in MADE else read_run(RESULTS / name)
    return Formats(run, f"agree-{name}", f"sqlite:///{store}/mlflow.db")


def rows_of(markdown: str, first: str) -> list[list[str]]:
    """The rows of tables that begin with this cell."""
    rows = [
        [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in markdown.splitlines() if line[:1] == "|"
    ]
    return [row for row in rows if row[0] == first]


def test_verdicts(formats: Formats, client: Any) -> None:
    verdict, headline = formats.json["verdict"], formats.json["headline"]
    assert formats.markdown.startswith(f"# {escaped(headline)}")
    assert headline.startswith(f"{verdict}: ")
    for text in (formats.html, formats.verification_page):
        assert " ".join(headline.replace("`", "").split()) in text
    failed = formats.junit.find(".//testcase[@name='verdict']/failure")
    assert verdict == ("CONFIRMED" if failed is None else failed.get("type"))
    notes = formats.parquet["variants.parquet"].schema.metadata
    assert notes[b"voxbench.verdict"].decode() == verdict
    assert escaped(headline) in formats.card.findtext(f".//{{{NAMESPACE}}}Summary")
    (parent,) = parents(client, formats)
    assert parent.data.tags["voxbench.verdict"] == verdict
    for own in formats.json["variants"]:
        row = next(row for row in formats.csv if row["name"] == own["name"])
        assert (row["verdict"] or None) == own["verdict"]
        assert junit_verdict(formats.junit, own) == own["verdict"]
        assert rows_of(formats.verification, escaped(own["name"]))[-1][1] in (
            own["verdict"], "baseline", "peer", own["status"]
        )  # fmt: skip
    assert formats.parquet["variants.parquet"]["verdict"].to_pylist() == [
        v["verdict"] for v in formats.json["variants"]
    ]


def test_bounds(formats: Formats, client: Any) -> None:
    table = formats.parquet["variants.parquet"].to_pylist()
    kept = {run.info.run_name: run.data.metrics for run in children(client, formats)}
    for own, row, stored in zip(formats.json["variants"], formats.csv, table, strict=True):
        bounds = own["time_reduction_pct"]
        for end, name in (("", "estimate"), ("_low", "low"), ("_high", "high")):
            column = f"case_time_reduction_pct{end}"
            assert (float(row[column]) if row[column] else None) == stored[column] == bounds[name], own["name"]
            assert kept[own["name"]].get(column) == bounds[name]
        if own["status"] == "ok" and own["name"] != formats.json["baseline"]:
            printed = formatting.bounded(bounds["estimate"], number(bounds["low"]), number(bounds["high"]))
            assert rows_of(formats.verification, escaped(own["name"]))[-1][2] == printed
            if not own["is_peer"]:
                assert any(printed in row for row in rows_of(formats.markdown, escaped(own["name"])))
                assert printed in formats.html


def test_the_subjects_bounds(formats: Formats, client: Any) -> None:
    if formats.json["subject"] is None:
        assert [row[5] for row in table_rows(formats.verification) if row[1:2] == ["a variant meets the claim"]] == [
            "**fail**"
        ]
        return
    speed = formats.subject_speed
    low, estimate = formatting.at_least(number(speed["low"])), formatting.percent(speed["estimate"])
    (criterion,) = [row for row in table_rows(formats.verification) if row[1].startswith("reduction of the ")]
    assert criterion[3:5] == [estimate, low]
    value = results(formats.card)["Reduction of the case time"]
    assert value.get("estimate", value.get("value")) == speed["estimate"]
    assert value.get("lower") == speed["low"]
    (parent,) = parents(client, formats)
    column = "confirmation_time_reduction_pct" if formats.json["confirmation"] else "case_time_reduction_pct"
    assert parent.data.metrics.get(f"{column}_low") == speed["low"]
    reasons = formats.junit.findtext(".//testcase[@name='verdict']/system-out")
    assert formats.json["reasons"][0] in reasons
    assert low in reasons or speed["low"] is None or formatting.at_most(speed["high"]) in reasons


def test_scores(formats: Formats, client: Any) -> None:
    table = {row["name"]: row for row in formats.parquet["variants.parquet"].to_pylist()}
    kept = {run.info.run_name: run.data.metrics for run in children(client, formats)}
    for row in formats.csv:
        for column, score in formats.scores(row["name"]).items():
            names = {"value": column, "delta": f"{column}_delta"}
            names |= {"low": f"{column}_delta_low", "high": f"{column}_delta_high"}
            for key, name in names.items():
                cell = row[name]
                assert (None if cell in ("", NOT_APPLICABLE) else float(cell)) == score[key], (row["name"], name)
                assert table[row["name"]][name] == score[key]
                assert kept[row["name"]].get(name) == score[key]


def test_the_subjects_scores_in_words(formats: Formats) -> None:
    summary, by_agreement = formats.summary, formats.json["shown_by"] == AGREEMENT
    criteria = {row[1]: row for row in table_rows(formats.verification) if len(row) == 6}
    card = results(formats.card)
    names = columns(formats.run.record.task, formats.run.record.settings.accuracy)
    for key, column in names.items() if formats.json["subject"] else ():
        score = formats.scores(formats.json["subject"])[column]
        if score["value"] is None or key.kind == "class_agreement":
            continue
        low = number(score["low"])
        printed = formatting.agreement(score["value"]) if by_agreement else formatting.score(score["value"])
        name = f"{key.label} to the baseline's" if by_agreement else f"change of {key.label}"
        observed, bound, result = criteria[escaped(name)][3:]
        assert observed.split(",")[0] == printed
        if not by_agreement:
            assert observed.split(", ")[1] == formatting.change(score["delta"])
            assert bound == formatting.least_change(low)
        states = {"kept": "pass", "lost": "fail", "undecided": "undecided", "absent": "in no case"}
        assert result.strip("*") == states[score["state"]]
        assert card[key.label + " to the reference's output" * by_agreement]["value"] == score["value"]
        if key in summary.shown(summary.row(formats.json["subject"]).margins):
            cells = [cell for row in rows_of(formats.markdown, escaped(formats.json["subject"])) for cell in row]
            assert any(cell.startswith(printed) for cell in cells), column
            assert printed in formats.html


def test_samples_and_scores_of_cases(formats: Formats) -> None:
    cases = list(csv.DictReader(io.StringIO(documents(formats.run, formats.summary)["cases.csv"].decode())))
    samples = formats.parquet["samples.parquet"].to_pylist()
    assert [float(row["case_s"]) for row in cases] == [row["case_s"] for row in samples]
    scores = {(r["variant"], r["case"], r["column"]): r for r in formats.parquet["scores.parquet"].to_pylist()}
    counted = {place: row["value"] for place, row in scores.items() if row["counts"] and row["value"] is not None}
    by_place = {(row["variant"], row["case"]): row for row in cases}
    assert counted
    for (name, case, column), value in counted.items():
        if (name, case) in by_place:
            assert float(by_place[name, case][column]) == value


def number(value: float | None) -> float:
    return float("nan") if value is None else value


def table_rows(markdown: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("|")[1:-1]] for line in markdown.splitlines() if line[:1] == "|"]


def results(card: ET.Element) -> dict[str, dict[str, Any]]:
    path = f".//{{{NAMESPACE}}}"
    return {
        html.unescape(each.findtext(f"{path}Label")): json.loads(each.findtext(f"{path}ValueJson"))
        for each in card.findall(f"{path}MetricResult")
    }


def junit_verdict(junit: ET.Element, own: dict[str, Any]) -> str | None:
    (case,) = [
        c for c in junit.iter("testcase") if (c.get("name"), c.get("classname")) == (own["name"], "voxbench.variant")
    ]
    if (failure := case.find("failure")) is not None:
        return failure.get("type")
    if (skipped := case.find("skipped")) is not None:
        return "INCONCLUSIVE" if skipped.get("message", "").startswith("inconclusive: ") else None
    return None if case.find("error") is not None or case.find("system-out") is None else "CONFIRMED"


def logged(client: Any, formats: Formats) -> list[Any]:
    """All runs of the experiment that this run was logged into."""
    return list(client.search_runs([client.get_experiment_by_name(formats.name).experiment_id]))


def parents(client: Any, formats: Formats) -> list[Any]:
    return [run for run in logged(client, formats) if run.data.tags["voxbench.kind"] == "run"]


def children(client: Any, formats: Formats) -> list[Any]:
    return [run for run in logged(client, formats) if run.data.tags["voxbench.kind"] == "variant"]
