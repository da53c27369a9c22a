"""Backends in groups, as memory allows: the rule, and a run of two groups through real worker processes."""

import json
from pathlib import Path

import pytest

import engines
from bench.cli.main import main
from bench.machine import host
from bench.schedule.fleet import fits
from bench.schedule.interleave import Interleaver
from engines.base import Backend
from tests.bench.forked import running_workers
from tests.bench.run_files import read_samples

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
    assert fits(need, available, total) == expected


def _two_at_most() -> tuple[int, int]:
    """A machine with room for two workers of up to 32 GiB."""
    return (2 - len(running_workers())) * 64 * GIB, 64 * GIB


def _interleaved(name: str) -> list[dict]:
    samples = read_samples(name)
    return [sample for sample in samples if sample["phase"] == "interleaved"]


def test_groups_follow_one_another_each_with_the_baseline(bench, monkeypatch):
    """Interrupted at the second group and resumed with room for all, the groups stay as they are."""
    monkeypatch.setattr(host, "memory", _two_at_most)
    rounds, calls = Interleaver.round, []

    def interrupted(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rounds(*arguments, **named)

    monkeypatch.setattr(Interleaver, "round", interrupted)
    code, _, printed = bench("--backends", "torch-fp32,torch-fp32,torch-fp32", "--rounds", "1")
    assert code == 130, printed
    expected = [["torch-fp32", "torch-fp32#2"], ["torch-fp32", "torch-fp32#3"]]
    assert json.loads(Path("run/run.json").read_text())["groups"] == expected
    before = _interleaved("torch-fp32#2")
    assert (len(before), _interleaved("torch-fp32#3")) == (CASES, [])

    monkeypatch.setattr(host, "memory", lambda: (2**50, 2**50))
    assert main(["run", "--resume", "--out", "run"]) in (1, 3)
    assert json.loads(Path("run/run.json").read_text())["groups"] == expected
    assert _interleaved("torch-fp32#2") == before
    for name, numbers in (("torch-fp32", {0, 1}), ("torch-fp32#2", {0}), ("torch-fp32#3", {1})):
        result = _interleaved(name)
        assert len(result) == CASES * len(numbers)
        assert {sample["round"] for sample in result} == numbers
        assert {sample["workers"] for sample in result} == {2}
        record = json.loads(Path(f"run/variants/{name}.json").read_text())
        assert [score["structures"]["whole pancreas"]["dsc"] for score in record["scores"]] == [1.0] * CASES, (
            "each kept its own first masks"
        )
        assert [score["structures"]["lesion"]["nsd"] for score in record["scores"]] == [1.0] * CASES


def test_backends_are_built_side_by_side_and_warmed_up_alone(bench, monkeypatch, tmp_path):
    """Each build waits until another one has begun, which a single one at a time would do in vain."""
    for name in ("left", "right"):
        monkeypatch.setitem(engines.BACKENDS, name, Backend("tests.bench.faulty:Sociable", "fp32"))
    monkeypatch.setenv("MEETING", str(tmp_path))
    monkeypatch.setattr(host, "physical_threads", lambda: 2)
    code, _, printed = bench("--backends", "left,right,torch-fp32,torch-fp32", "--rounds", "1", "--threads", "1")
    assert code in (1, 3), printed
    for name, beside in (("torch-fp32", 0), ("left", 1), ("right", 1)):
        record = json.loads(Path(f"run/variants/{name}.json").read_text())
        assert (record["status"], record["built_beside"]) == ("ok", beside), record
        assert record["warmup"]["passes"] >= 3
    assert "beside others" in Path("run/report.md").read_text()
    events = [line.split() for line in (tmp_path / "events").read_text().splitlines()]
    assert [what for what, _ in events[:2]] == ["begun", "begun"]
    warming = [who for what, who in events if what == "pass"][2:8]  # behind the first pass of each, part of its build
    assert warming[:3] == warming[:1] * 3, "no pass of the other comes between"


def test_what_hangs_while_it_is_built_costs_its_row_alone(bench, monkeypatch):
    monkeypatch.setitem(engines.BACKENDS, "stuck", Backend("tests.bench.faulty:Stuck", "fp32"))
    monkeypatch.setattr(host, "physical_threads", lambda: 2)
    options = ("--backends", "stuck,torch-fp32,torch-fp32", "--rounds", "1", "--timeout", "15")
    _, summary, printed = bench(*options)
    assert "stuck failed: no answer within 15 s; it was stopped" in printed
    statuses = {row["name"]: row["status"] for row in summary["variants"]}
    assert statuses == {"torch-fp32": "ok", "stuck": "failed", "torch-fp32#2": "ok"}
