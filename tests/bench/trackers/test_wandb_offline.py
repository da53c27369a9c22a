"""Runs of the real wandb without network, read back from the files that it would upload."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from bench.cli.main import main
from reports.records.record import SKIPPED
from reports.records.store import write_run
from reports.render.exchange.rows import figures, variant_rows
from reports.summary.summarise import summarise
from tests.bench.trackers.listener import listening
from tests.reports.factory import Candidate, make_run, variant

BLOCK = 32768  # of the log format of LevelDB, in which wandb keeps what it will upload
SKIP = variant("tensorrt-fp16", SKIPPED, "the package tensorrt is not installed", "pip install it")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and the folder that a process of its own has logged it into with no network but a listener."""
    folder = tmp_path_factory.mktemp("wandb")
    made = make_run(
        {"openvino-int8@2": Candidate(5.0, confirmed_speedup=5.1), SKIP.name: SKIP}, confirmed="openvino-int8@2"
    )
    write_run(folder / "run", made)
    with listening() as listener:
        command = [sys.executable, "-m", "bench", "log", "wandb-offline", str(folder / "run"), "--out", str(folder)]
        done = subprocess.run(
            command, env={**os.environ, **listener.variables}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert listener.connections == 0
    return made, folder, done.stdout


def records(file: Path) -> Iterator[Record]:
    """The records in a file of wandb's: blocks of chunks, each with checksum, length and whether it goes on."""
    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Of each run what it is, its figures and what it was made with."""
    runs = {}
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        every = list(records(file))
        about = next(each.run for each in every if each.WhichOneof("record_type") == "run")
        history = [each.history for each in every if each.WhichOneof("record_type") == "history"]
        rows = [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in history]
        metrics = {name: value for row in rows for name, value in row.items() if not name.startswith("_")}
        config = {item.key: json.loads(item.value_json) for item in about.config.update}
        runs[about.display_name] = {"about": about, "metrics": metrics, "config": config, "folder": file.parent}
    return runs


def test_what_is_read_back_is_what_the_report_says(run):
    made, folder, printed = run
    runs, summary = read(folder), summarise(made)
    for row in variant_rows(summary):
        assert runs[row["name"]]["metrics"] == pytest.approx(figures(row), rel=1e-12), row["name"]
    whole = runs[made.record.id]
    bounds = summary.confirmation.reduction
    assert whole["metrics"]["confirmation_time_reduction_pct_low"] == pytest.approx(bounds.low, rel=1e-12)
    assert whole["config"]["voxbench.verdict"] == "CONFIRMED"
    assert whole["config"]["sha256.data"] == "ef" * 32
    assert list(whole["about"].tags) == ["CONFIRMED", "truth"]
    assert {each["about"].run_group for each in runs.values()} == {f"voxbench-{made.record.id}"}
    assert whole["about"].job_type == "run"
    assert f"4 runs in group voxbench-{made.record.id}; upload them with: wandb sync" in printed


def test_files_go_along(run):
    made, folder, _ = run
    files = read(folder)[made.record.id]["folder"] / "files"
    assert {path.name for path in files.iterdir()} >= {
        "report.md",
        "report.html",
        "report.json",
        "cases.csv",
        "run.json",
    }
    assert json.loads((files / "report.json").read_text())["verdict"] == "CONFIRMED"
    assert not any(path.is_symlink() for path in files.iterdir())


def test_a_run_is_logged_once_unless_asked_again(run, capsys):
    made, folder, _ = run
    command = ["log", "wandb-offline", str(folder / "run"), "--out", str(folder)]
    assert main(command) == 2
    assert f"holds run {made.record.id} already; log it a second time with --again" in capsys.readouterr().err
    assert main([*command, "--again"]) == 0
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 8


def test_a_folder_that_cannot_be_made_is_one_line(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["log", "wandb-offline", str(run[1] / "run"), "--out", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "choose another --out" in said) == (1, True)


def test_without_wandb_the_line_says_what_to_install(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["log", "wandb-offline", str(run[1] / "run"), "--out", str(tmp_path)]) == 2
    assert "takes wandb, which is not installed; in the checkout of voxbench: pip install" in capsys.readouterr().err
