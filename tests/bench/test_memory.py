"""Backends in groups, as memory allows: the rule, and a run of two groups through real worker processes."""

import json
from pathlib import Path

import psutil
import pytest

from bench import memory
from bench.cli import main

CASES, GIB = 5, 2**30


@pytest.mark.parametrize(
    ("need", "available", "total", "expected"),
    [
        (GIB, 2 * GIB, 8 * GIB, True),  # the reserve is 1 GiB
        (GIB, 2 * GIB - 1, 8 * GIB, False),
        (2 * GIB, 12 * GIB, 100 * GIB, True),  # a tenth
        (2 * GIB, 12 * GIB - 1, 100 * GIB, False),
    ],
)
def test_a_worker_fits_where_it_leaves_the_reserve(need, available, total, expected):
    assert memory.fits(need, available, total) == expected


def test_the_machine_tells_its_memory():
    available, total = memory.machine()
    assert 0 < available <= total


def _two_at_most() -> tuple[int, int]:
    """A machine with room for two workers of up to 32 GiB."""
    workers = sum("bench.worker" in child.cmdline() for child in psutil.Process().children())
    return (2 - workers) * 64 * GIB, 64 * GIB


def _duels(name: str) -> list[dict]:
    samples = json.loads(Path(f"run/backends/{name}.json").read_text())["samples"]
    return [sample for sample in samples if sample["phase"] == "duel"]


def test_groups_follow_one_another_each_with_the_baseline(bench, monkeypatch):
    monkeypatch.setattr("bench.run._peak", lambda record, progress: {})
    monkeypatch.setattr(memory, "machine", _two_at_most)
    code, summary, printed = bench("--backends", "torch-fp32,torch-fp32,torch-fp32", "--rounds", "1")
    assert code in (1, 3), printed
    groups = [["torch-fp32", "torch-fp32#2"], ["torch-fp32", "torch-fp32#3"]]
    assert json.loads(Path("run/run.json").read_text())["groups"] == groups
    for name, rounds in (("torch-fp32", {0, 1}), ("torch-fp32#2", {0}), ("torch-fp32#3", {1})):
        found = _duels(name)
        assert {sample["round"] for sample in found} == rounds
        assert len(found) == CASES * len(rounds)
        assert {sample["workers"] for sample in found} == {2}
        record = json.loads(Path(f"run/backends/{name}.json").read_text())
        assert [score["whole_dsc"] for score in record["scores"]] == [1.0] * CASES, "each kept its own first masks"
        assert [score["lesion_nsd"] for score in record["scores"]] == [1.0] * CASES

    named = {backend["name"]: backend for backend in summary["backends"]}
    assert all(named[name]["time_reduction_pct"] for name in ("torch-fp32#2", "torch-fp32#3"))

    # Resumed within the second group, and with room for all, the groups stay as they are.
    before = _duels("torch-fp32#3")
    for path in Path("run/backends").glob("*.json"):
        record = json.loads(path.read_text())
        left = [s for s in record["samples"] if s["phase"] == "duel"]
        left = left[:-1] if path.stem == "torch-fp32#3" else left
        path.write_text(json.dumps(record | {"samples": left, "status": "pending", "scores": []}))
    run = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(run | {"status": "interrupted", "confirmed": None}))
    monkeypatch.setattr(memory, "machine", lambda: (2**50, 2**50))
    assert main(["run", "--resume", "--out", "run"]) in (1, 3)
    assert json.loads(Path("run/run.json").read_text())["groups"] == groups
    after = _duels("torch-fp32#3")
    assert len(after) == CASES
    assert sum(sample in before for sample in after) == CASES - 1
    assert len(_duels("torch-fp32#2")) == CASES
