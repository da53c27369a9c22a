"""A run goes on only with what it began with, and where it began."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import run as run_module
from bench.cli.main import main
from tests.bench.conftest import SIDE


@pytest.fixture
def began(network, data, tmp_path, monkeypatch, capsys) -> Callable[..., dict]:
    """Begin a run in the folder `run`, of which nothing is measured, and give its record."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run_module, "_measure", lambda plan, store, *_: store.directory.folder)
    shutil.copy(network[0], "net.pth")

    def begin(*options: str) -> dict:
        where = ("--checkpoint", "net.pth", "--data", str(data), "--tile", f"{SIDE},{SIDE},{SIDE}", "--device", "cpu")
        code = main(["run", *where, "--threads", "1", "--max-cases", "5", "--out", "run", *options])
        assert code == 3, capsys.readouterr().err
        return json.loads(Path("run/run.json").read_text())

    return begin


@pytest.fixture
def resumed(capsys) -> Callable[[], str]:
    """Go on with it; gives the line that refuses that, empty where none does."""

    def resume() -> str:
        capsys.readouterr()
        code = main(["run", "--resume", "--out", "run"])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench: ")]
        assert (code, len(lines)) in ((3, 0), (2, 1))
        return "".join(lines)

    return resume


def change(path: Path, edit: Callable[[dict], None]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_another_script_of_an_own_command_is_refused_by_name(began, resumed):
    Path("new.py").write_text("import sys\n")
    record = began("--backends", "", "--command", f"new={sys.executable} -I new.py {{image}} {{mask}} --log=new.log")
    assert record["settings"]["variants"]["new"]["command"]["files"].keys() == {sys.executable, "new.py"}
    Path("new.log").write_text("which the command writes itself\n")
    assert resumed() == ""
    Path("new.py").write_text("import os\n")
    assert resumed() == ("bench: command new: new.py: is not what this run began with; put it back, or start a new run")
    Path("new.py").unlink()
    assert "new.py: is not what this run began with" in resumed()


def test_a_run_of_a_version_that_kept_no_hashes_goes_on(began, resumed):
    Path("new.py").write_text("import sys\n")
    began("--backends", "", "--command", f"new={sys.executable} new.py {{image}} {{mask}}")

    def without(record: dict) -> None:
        del record["settings"]["variants"]["new"]["command"]["files"]

    change(Path("run/run.json"), without)
    Path("new.py").write_text("import os\n")
    assert resumed() == ""
