"""Runs in a real store of MLflow, read back through its own client."""

import json
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.trackers.mlflow_store import _key
from reports.records.record import INTERRUPTED, SKIPPED, StructureRecord
from reports.records.store import write_run
from reports.render.csv_tables import cases_csv
from reports.render.exchange.rows import figures, variant_rows
from reports.render.summary_json import summary_json
from reports.summary.summarise import summarise
from tests.reports.factory import Candidate, make_run, of_structures, variant

pytestmark = pytest.mark.xdist_group("mlflow")

SKIP = variant("tensorrt-fp16", SKIPPED, "the package tensorrt is not installed", "pip install it")


@pytest.fixture
def run(tmp_path):
    made = make_run(
        {"openvino-int8@2": Candidate(5.0, lesion=(-0.001, 0.002), confirmed_speedup=5.1), SKIP.name: SKIP},
        confirmed="openvino-int8@2",
    )  # fmt: skip
    write_run(tmp_path / "run", made)
    return made


def logged(client, name: str):
    """The parent of an experiment, and its children by the names of their variants."""
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id])
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    children = {each.info.run_name: each for each in runs if each not in parents}
    assert {each.data.tags["mlflow.parentRunId"] for each in children.values()} <= {p.info.run_id for p in parents}
    return parents, children


def log(tmp_path: Path, uri: str, *more: str) -> int:
    return main(["log", "mlflow", str(tmp_path / "run"), "--uri", uri, *more])


def test_what_is_read_back_is_what_the_report_says(run, tmp_path, uri, client, capsys):
    assert log(tmp_path, uri, "--experiment", "figures") == 0
    assert "figures: run" in capsys.readouterr().out
    (parent,), children = logged(client, "figures")
    summary = summarise(run)
    document = summary_json(summary)
    assert parent.data.tags["voxbench.verdict"] == document["verdict"] == "CONFIRMED"
    assert parent.data.tags["voxbench.best"] == document["best"]
    assert parent.data.tags["mlflow.note.content"].startswith(f"**{document['headline']}**")
    bounds = document["confirmation"]["time_reduction_pct"]
    names = ("confirmation_time_reduction_pct", "confirmation_time_reduction_pct_low")
    assert [parent.data.metrics[name] for name in names] == [bounds["estimate"], bounds["low"]]
    assert parent.data.params["sha256.weights"] == "cd" * 32
    assert parent.data.params["claim.min_reduction_pct"] == "10.0"
    assert parent.data.params["version.torch"] == "2.13.0"
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", run.record.id)
    assert parent.info.start_time < parent.info.end_time
    expected = {row["name"]: figures(row) for row in variant_rows(summary)}
    assert {name: child.data.metrics for name, child in children.items()} == expected
    fast, skipped = children["openvino-int8@2"], children[SKIP.name]
    assert (fast.data.params["backend"], fast.data.params["batch"]) == ("openvino-int8", "2")
    assert fast.data.tags["voxbench.verdict"] == "CONFIRMED"
    assert (skipped.data.tags["voxbench.status"], skipped.data.tags["voxbench.reason"]) == (SKIPPED, SKIP.reason)


def test_files_lie_beside_the_database(run, tmp_path, uri, client, store):
    assert log(tmp_path, uri, "--experiment", "files") == 0
    (parent,), _ = logged(client, "files")
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"report.md", "report.html", "report.json", "cases.csv", "run.json"}
    folder = store / "mlruns" / "files" / parent.info.run_id / "artifacts"
    assert (folder / "run.json").read_bytes() == (tmp_path / "run" / "run.json").read_bytes()
    assert (folder / "cases.csv").read_text() == cases_csv(run)
    assert json.loads((folder / "report.json").read_text())["verdict"] == "CONFIRMED"


def test_a_run_is_logged_once_unless_asked_again(run, tmp_path, uri, client, capsys):
    assert log(tmp_path, uri, "--experiment", "twice") == 0
    first = logged(client, "twice")[0][0].info.run_id
    capsys.readouterr()
    assert log(tmp_path, uri, "--experiment", "twice") == 2
    line = capsys.readouterr().err
    assert f"experiment twice holds run {run.record.id} already, as {first}; log it a second time with --again" in line
    assert line.count("\n") == 1
    assert log(tmp_path, uri, "--experiment", "twice", "--again") == 0
    assert len(logged(client, "twice")[0]) == 2


def test_what_fails_midway_leaves_nothing(run, tmp_path, uri, client, store, capsys):
    (store / "mlruns").mkdir(exist_ok=True)
    (store / "mlruns" / "blocked").write_text("a file where the folder would be")
    assert log(tmp_path, uri, "--experiment", "blocked") == 2
    assert "bench: " in capsys.readouterr().err
    assert logged(client, "blocked") == ([], {})


def test_long_odd_and_many(tmp_path, uri, client):
    """More than 1,000 metrics of a variant, values beyond MLflow's length, names that it does not take."""
    structures = {f"structure {n}{'+' * (n == 7)}": StructureRecord(labels=(n + 1,)) for n in range(240)}
    made = of_structures(make_run({"x": Candidate(2.0)}, status=INTERRUPTED, cases=6), structures, {})
    made = replace(made, record=replace(made.record, command="bench run " + "x" * 9000, id="it's-odd"))
    write_run(tmp_path / "run", made)
    assert (
        log(tmp_path, uri, "--experiment", "many") == 2
    )  # an id that no run of ours has, and MLflow cannot search for
    write_run(tmp_path / "run", replace(made, record=replace(made.record, id="odd")))
    assert log(tmp_path, uri, "--experiment", "many") == 0
    (parent,), children = logged(client, "many")
    assert len(children["x"].data.metrics) > 1000
    assert len(parent.data.params["command"]) == 6000
    keys = [_key("a" * 300), _key("a" * 301), _key("a+b"), _key("a*b"), _key("a b")]
    assert len(set(keys)) == 5
    assert max(map(len, keys)) == 250


@pytest.mark.parametrize(
    ("given_uri", "said"),
    [
        ("./mlruns", "MLflow refuses"),
        ("sqlite:///nowhere/mlflow.db", "nowhere/mlflow.db: cannot be used as MLflow's database (unable to open"),
        (
            "sqlite:///run.txt",
            "run.txt: cannot be used as MLflow's database (file is not a database); name another --uri",
        ),
        (
            "sqlite+pysqlite:///nowhere/mlflow.db",
            "sqlite+pysqlite:///nowhere/mlflow.db: the database refuses: (sqlite3.OperationalError) unable to open "
            "database file; give another --uri",
        ),
        ("postgresql+psycopg2://me:secret@host/runs", "psycopg2://host/runs: takes the package psycopg2, which is not"),
        ("mysql+nodriver://me:secret@host/runs", "mysql+nodriver://host/runs: the database refuses: "),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(run, tmp_path, monkeypatch, capsys, given_uri, said):
    (tmp_path / "run.txt").write_text("no database " * 100)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    assert log(tmp_path, given_uri) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "secret" not in printed
    assert printed.count("\n") == 1


def test_without_mlflow_the_line_says_what_to_install(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert log(tmp_path, "sqlite:///x.db") == 2
    said = "bench log mlflow: takes sqlalchemy, which is not installed; in the checkout of voxbench: pip install"
    assert said in capsys.readouterr().err


def test_nothing_is_sent_anywhere(run, tmp_path, uri, listener):
    """By any test here: in all of them the way to every server leads to the listener."""
    assert log(tmp_path, uri, "--experiment", "quiet") == 0
    assert listener.connections == 0
    with pytest.raises(OSError, match=r"closed|reset|HTTP"):
        urllib.request.build_opener().open("http://example.org/", timeout=10)
    assert listener.connections == 1
    listener.connections = 0
