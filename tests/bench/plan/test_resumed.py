"""A run goes on only with what it began with, and where it began."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import run as run_module
from bench.cli.main import main
from bench.plan.resumption import resume_plan
from bench.progress import Unshown
from reports.records.store import read_run
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


def host(name: str, value: object) -> Callable[[dict], None]:
    return lambda record: record["host"].update({name: value})


def version(name: str, value: str) -> Callable[[dict], None]:
    return lambda record: record["versions"].update({name: value})


@pytest.mark.parametrize(
    ("edit", "began_with", "advice"),
    [
        (host("processor", "Other CPU"), "on Other CPU, ", ", and this is "),
        (host("cores", 999), "999 cores", "; resume it there, or start a new run"),
        (host("cpu_quota", 1.5), "a quota of 1.5 CPUs", "; resume it there, or start a new run"),
        (host("python", "3.10.1"), "with Python 3.10.1, and this is 3.", "; resume it with the former, or start a new"),
        (version("torch", "1.0"), "with torch 1.0, and this is 2.", "; resume it with the former, or start a new run"),
        (version("voxbench", "0.0.9"), "with voxbench 0.0.9, and this is 0.", "; resume it with the former"),
        (version("monai", "0.1"), "with monai 0.1, and this is ", "; resume it with the former, or start a new run"),
    ],
)
def test_another_machine_and_other_versions_are_refused(edit, began_with, advice, began, resumed):
    began("--backends", "torch-amp")
    change(Path("run/run.json"), edit)
    line = resumed()
    assert line.startswith("bench: --resume: began ")
    assert began_with in line
    assert advice in line


def test_what_runs_no_variant_may_change_and_another_system_is_a_note(began, resumed):
    record = began("--backends", "torch-amp")
    for edit in (version("openvino", "2020.1"), host("system", "Linux 1.0"), host("cpu_features", None),
                 host("memory_bytes", 12345)):  # fmt: skip
        change(Path("run/run.json"), edit)
    assert resumed() == ""
    planned = resume_plan(read_run(Path("run")).record, Unshown()).record
    note = f"resumed with the system {record['host']['system']}, begun with Linux 1.0"
    assert planned.host.remarks == (*record["host"]["remarks"], note)


def test_a_gpu_that_is_not_there_is_another_machine(began, resumed):
    began("--backends", "torch-amp")

    def on_gpu(record: dict) -> None:
        record["settings"]["device"] = "cuda:99"
        record["host"]["gpu"] = "NVIDIA H100"

    change(Path("run/run.json"), on_gpu)
    assert resumed().startswith("bench: --resume: began on NVIDIA H100, ")


def test_packages_that_run_around_a_network_are_recorded(began):
    assert began("--backends", "torch-amp", "--baseline", "peer-monai-fp32")["versions"].keys() >= {"monai", "torch"}
