"""`bench tune` from end to end: real workers on a small network, a search, and its confirmation."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.plan.variants.recipes import read_recipes
from bench.schedule.interleave import Interleaver
from bench.tune import trials as trials_module
from reports.records.store import read_run
from tests.bench.written_cases import SIDE, write_cases

FEW, MORE = 8, 4  # cases to tune on; trials


@pytest.fixture
def with_training(network, data, tmp_path) -> Path:
    """The cases of the fixture `data`, and some of a training split likewise."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    write_cases(root / "train", "train", FEW, network[1], seed=1)
    return root


@pytest.fixture
def tune(network, with_training, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))

    def call(*options: str) -> tuple[int, str]:
        where = ("--checkpoint", str(network[0]), "--data", str(with_training), "--device", "cpu", "--threads", "1")
        where += ("--tile", f"{SIDE},{SIDE},{SIDE}", "--backends", "torchscript,openvino-fp32")
        code = main(["tune", *where, "--out", "search", "--budget", "1000", *options])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed.out + printed.err

    return call


def lines() -> list[dict]:
    return [json.loads(line) for line in Path("search/trials.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_a_search_that_is_interrupted_twice_ends_in_a_recipe_that_is_confirmed_on_other_cases(tune, monkeypatch):
    measure, rounds, calls = trials_module.Trials.measure, Interleaver.round, []

    def in_the_third_trial(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    def in_the_confirmation(self, *arguments, **named):
        if self.run.id == "confirmation":
            raise KeyboardInterrupt
        return rounds(self, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(trials_module.Trials, "measure", in_the_third_trial)
        code, printed = tune("--trials", str(MORE))
    assert code == 130
    assert "To finish it: the same command with --resume --out search" in printed
    before = lines()
    assert len(before) == 3
    refused = "bench: search: exists and is not empty; continue it with --resume or choose another --out\n"
    assert tune("--trials", str(MORE)) == (2, refused)
    code, printed = tune("--trials", str(MORE), "--overlap", "0.25", "--resume")
    assert code == 2
    assert "search/shipped: the settings are not those that this search began with; begin another one" in printed
    with monkeypatch.context() as patched:
        patched.setattr(Interleaver, "round", in_the_confirmation)
        code, printed = tune("--trials", str(MORE), "--resume")
    assert code == 130
    assert "the same command with --resume --out search" in printed
    assert lines()[:3] == before
    searched, recipe = lines(), Path("search/recipe.toml").read_text()
    assert len(searched) >= MORE
    code, printed = tune("--trials", "99", "--resume")
    assert code in (0, 1, 3), printed
    assert (lines(), Path("search/recipe.toml").read_text()) == (searched, recipe), "nothing more is searched"
    _check_search(printed)
    assert tune("--trials", "99", "--resume")[0] == 2, "no second look at the evaluation cases"
    assert lines() == searched


def _check_search(printed: str) -> None:
    trials = lines()
    assert trials[0]["speedup"] == 1.0
    assert {trial["state"] for trial in trials} <= {"measured", "pruned", "failed"}
    shipped, confirmed = read_run(Path("search/shipped")), read_run(Path("search/confirmation"))
    seen, evaluated = ({case.name for case in run.record.cases} for run in (shipped, confirmed))
    assert (len(seen), len(evaluated)) == (FEW, 16)
    assert not seen & evaluated
    assert confirmed.record.confirmed == "tuned"
    recipe = read_recipes(Path("search/recipe.toml"), "none", 0.5, 1)["tuned"]
    assert recipe == confirmed.record.settings.variants["tuned"]
    assert any(s.phase == "confirmation" for s in confirmed.variant("tuned").samples)
    assert "`bench run --recipes search/recipe.toml` with the search's options" in printed, "as typed where it began"
    assert "`bench predict search/confirmation INPUT --out DIR`" in printed
    report = Path("search/tuning.md").read_text()
    assert "`bench run --recipes recipe.toml` with the search's options" in report, "in its own folder, which may move"
    for part in (
        "## The recipe",
        "## Time against accuracy",
        "8 cases of the split train",
        "once against 16 cases that the",
    ):
        assert part in report
    assert "Report: search/tuning.md" in printed
    assert not list(Path("search/search/1/predictions").glob("trial-*")), "what is scored is not kept"


def test_what_it_needs_is_named(tune, monkeypatch):
    monkeypatch.setattr("bench.cli.commands.tune.find_spec", lambda name: None if name == "optuna" else sys)
    assert tune() == (2, 'bench: a search needs optuna; in the checkout of voxbench: pip install ".[tune]"\n')
