"""The committed runs say today what they said when they were measured.

``committed_runs.jsonl`` holds, for each run and each of its variants, verdicts and figures as they were printed before
the records were migrated to schema 2.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bench.cli.commands.check import exit_code
from bench.cli.main import main
from reports.records.store import read_run
from reports.render import markdown_files
from reports.render.csv_tables import cases_csv
from reports.render.summary_json import summary_json
from reports.summary.summarise import summarise

RESULTS = Path(__file__).parents[2] / "docs" / "results"
LINES = [json.loads(line) for line in Path(__file__).with_name("committed_runs.jsonl").open()]
RUNS = {name: list(lines) for name, lines in groupby(LINES, lambda line: line["run"])}


def test_every_committed_run_is_checked() -> None:
    assert set(RUNS) == {path.parent.name for path in RESULTS.glob("*/run.json")}


@pytest.mark.parametrize("name", {(said["exit"], said["verdict"]): name for name, (said, *_) in RUNS.items()}.values())
def test_check_ends_as_on_that_day(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One run for each end; the verdicts of all are asked below."""
    assert main(["check", str(RESULTS / name)]) == RUNS[name][0]["exit"]
    assert capsys.readouterr().out.startswith(f"{RUNS[name][0]['verdict']}: ")


@pytest.mark.parametrize("name", RUNS)
def test_verdict_figures_and_report_are_those_of_the_day(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RESULTS.parents[1])  # the report of a run that was cut short names its folder
    said, *variants = RUNS[name]
    run = read_run(Path("docs/results", name))
    summary = summarise(run)
    document = summary_json(summary)
    assert exit_code(summary) == said["exit"]
    for key in ("verdict", "subject", "best", "cases", "rounds", "pareto_front"):
        assert document[key] == said[key], key
    confirmation = document["confirmation"]
    assert (confirmation and interval(confirmation["time_reduction_pct"])) == said["confirmation"]
    assert [row["name"] for row in document["variants"]] == [line["variant"] for line in variants]
    for row, line in zip(document["variants"], variants, strict=True):
        assert {"run": name, **figures(row)} == line
    for file, text in (markdown_files(summary) | {"cases.csv": cases_csv(run)}).items():
        path = RESULTS / name / file
        if path.suffix == ".svg":  # another version of matplotlib may draw other bytes
            assert path.read_text(encoding="utf-8").startswith("<svg "), path
            continue
        assert path.read_text(encoding="utf-8") == text, f"{path}: write it again with `bench report {path.parent}`"


def interval(bounds: dict[str, Any]) -> list[float]:
    return [bounds[name] for name in ("estimate", "low", "high")]


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """Of a variant, what the file holds."""
    shown = {"variant": row["name"], "status": row["status"], "verdict": row["verdict"]}
    if row["status"] != "ok":
        return shown
    accuracy = row["accuracy"]
    scores = {
        f"{structure}_{kind}".replace(" ", "_"): metric
        for kind in ("dsc", "nsd")
        for structure, metrics in accuracy["structures"].items()
        if (metric := metrics.get(kind))
    }
    return shown | {
        "reduction": interval(row["time_reduction_pct"]),
        "forward": interval(row["forward"]["speedup"]),
        "latency": [row["latency_s"][name] for name in ("p50", "p90", "p95", "p99")],
        "stages": list(row["stages_s"].values()),
        "build": [row["build_s"], row["peak_memory_bytes"]],
        "roofline": [row["roofline"][name] for name in ("floor_s", "share", "traffic_s")],
        "p": row["speed_claim"] and row["speed_claim"]["p_holm"],
        "roi": row["roi_use"] and [*row["roi_use"]["outside"].values(), row["roi_use"]["tiles"]],
        "voxels": accuracy["voxel_disagreement"],
        "flips": accuracy["class_flips"],
        "resources": list(row["resources"].values()),
        "scores": {
            name: [metric[key] for key in ("value", "delta", "low", "high", "state")]
            for name, metric in (scores | {"macro_f1": accuracy["macro_f1"]}).items()
        },
    }
