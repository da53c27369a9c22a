"""Own commands in whole runs: compared like any backend, in each mode, and each fault costs one row."""

import json
import sys
from pathlib import Path

import psutil
import pytest

from bench.cli.main import main
from reports.records.store import read_run
from tests.bench.commands.test_runner import MODES, PREDICTOR, REST
from tests.bench.forked import running_workers
from tests.bench.run_files import put_samples, read_samples

CASES = 5


def option(name: str, mode: str, fault: str = "none", seconds: float = 0.0) -> tuple[str, str]:
    return "--command", f"{name}:{mode}={sys.executable} {PREDICTOR} {fault} {seconds} {mode} {REST[mode]}"


def row(summary: dict, name: str) -> dict:
    return next(variant for variant in summary["variants"] if variant["name"] == name)


def alone(*commands: tuple[str, str]) -> list[str]:
    return [part for each in (("--baseline", commands[0][1].partition(":")[0]), *commands) for part in each]


FAULTS = {
    "crash": "it ended with exit status 3",
    "nothing": "it wrote no mask, which should be ",
    "half": "damaged or cut short",
    "shape": "the mask is 31 x 32 x 32, its image 32 x 32 x 32",
    "affine": "the mask does not lie on its image",
}


@pytest.mark.xdist_group("orphans")  # of which another mode has some while it runs
@pytest.mark.parametrize("mode", MODES)
def test_each_fault_is_one_row_and_nothing_else_is_lost(mode, bench):
    commands = [option(f"{fault}ing", mode, fault) for fault in FAULTS]
    commands = [option("baseline", mode), option("good", mode), option("forking", mode, "fork"), *commands]
    code, summary, printed = bench(*alone(*commands), "--rounds", "1", "--timeout", "60")
    assert code in (1, 3)
    assert [row(summary, name)["status"] for name in ("baseline", "good", "forking")] == ["ok"] * 3
    for fault, reason in FAULTS.items():
        result = row(summary, f"{fault}ing")
        assert (result["status"], result["log"]) == ("failed", f"variants/{fault}ing.log")
        assert reason in result["reason"]
        assert printed.count(f"{fault}ing failed: ") == 1
        assert Path("run", result["log"]).exists()
    samples = [sample for sample in read_samples("good") if sample["phase"] == "interleaved"]
    assert len(samples) == (1 if mode == "folder" else CASES)
    assert all(sample["stages_ns"] == {} and sample["cpu_ns"] > 0 for sample in samples if mode != "server")
    assert row(summary, "good")["peak_memory_bytes"] or mode != "server"
    orphans = [each for each in psutil.process_iter(["cmdline"]) if "time.sleep(3600)" in str(each.info["cmdline"])]
    assert not orphans
    assert not running_workers()


def test_a_command_is_held_against_the_network(bench, network):
    """Its masks are the truth, which are the network's own; it gives no classes, which the network does."""
    code, summary, _ = bench("--backends", "torch-fp32", *option("own", "case"), "--rounds", "1")
    own = row(summary, "own")
    assert (own["backend"], own["command"]["mode"], own["stages_s"]["forward"]) == ("command", "case", None)
    assert (own["build_s"], own["evidence"]["provider"]) == (None, "own command, a process for each case")
    assert own["accuracy"]["voxel_disagreement"] == 0
    assert code in (1, 3), "as the small network is fast"
    assert "macro-F1 cannot be judged, as no case has a true and a predicted subtype" in " ".join(own["reasons"])


def test_a_call_over_all_cases_is_held_against_the_sum_of_the_baselines(bench, limit):
    """Five calls are the least, and the processes are launched anew before each."""
    limit(confirmation=True)
    commands = (option("slow", "server", seconds=0.2), option("fast", "folder", seconds=0.02))
    code, summary, printed = bench(*alone(*commands), "--rounds", "5")
    fast = row(summary, "fast")
    assert (fast["unit"], fast["cases"], fast["launches"]) == ("call", 5, 5)
    assert fast["speed_claim"]["verdict"] == "CONFIRMED"
    assert summary["confirmation"]["cases"] == 5
    assert code == 3, "a server gives classes and a folder none"
    assert "reduces" not in printed
    samples = [each for each in read_samples("fast") if each["phase"] == "interleaved"]
    assert [(each["round"], each["launch"], each["case"]) for each in samples] == [(n, n, "*") for n in range(5)]
    seconds = [each["case_ns"] for each in read_samples("slow") if (each["phase"], each["round"]) == ("interleaved", 0)]
    speedups = sum(seconds) / samples[0]["case_ns"]
    assert speedups > 2
    report = Path("run/report.md").read_text()
    assert "fast: one call ran all 5 cases, and none of them has a time of its own" in report
    assert "fast (a whole call)" in report
    assert "time of a call over all cases reduced by" in report


def test_a_round_that_a_call_left_half_done_is_made_anew(bench):
    commands = (option("slow", "case", seconds=0.05), option("fast", "folder"))
    bench(*alone(*commands), "--rounds", "2")
    before = read_samples("slow")
    put_samples("slow", [each for each in before if each["phase"] != "confirmation"][:-2])
    put_samples("fast", [each for each in read_samples("fast") if each["phase"] != "confirmation"])
    for name in ("slow", "fast"):
        path = Path(f"run/variants/{name}.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "pending"}))
    run = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(run | {"status": "interrupted", "confirmed": None}))
    main(["run", "--resume", "--out", "run"])
    for name, count in (("slow", CASES), ("fast", 1)):
        rounds = [(each["round"], each["launch"]) for each in read_samples(name) if each["phase"] == "interleaved"]
        assert len(rounds) == 2 * count
        assert len(set(rounds)) == 2, "each round is of one launch"


def test_commands_alone_need_a_task_and_no_network(bench, data, limit, tmp_path, capsys):
    limit(confirmation=True)
    task = tmp_path / "task.toml"
    task.write_text('channels = ["CT"]\n[labels]\nbackground = 0\npancreas = 1\nlesion = 2\n')
    where = ("run", "--data", str(data), "--task", str(task), "--out", "run", "--max-cases", str(CASES))
    commands = alone(option("a", "case", seconds=0.1), option("b", "case"))
    code = main([*where, *commands, "--device", "cpu", "--rounds", "1"])
    printed = capsys.readouterr()
    assert code == 0, printed
    run = json.loads(Path("run/run.json").read_text())
    assert (run["checkpoint"]["container"], run["peak_flops"], run["task"]["classes"]) == ("none", {}, 0)
    assert printed.out.startswith("CONFIRMED: b reduces the case time by")


def test_a_command_may_call_classes_by_the_tasks_names(data, tmp_path, limit, capsys):
    task = tmp_path / "task.toml"
    labels = "[labels]\nbackground = 0\npancreas = 1\nlesion = 2\n"
    task.write_text(f'channels = ["CT"]\nclasses = ["cyst", "tumour", "other"]\n{labels}')
    where = ("run", "--data", str(data), "--task", str(task), "--out", str(tmp_path / "run"), "--max-cases", "2")
    code = main([*where, *alone(option("a", "server"), option("b", "server", "named")), "--rounds", "1"])
    assert code == 3, capsys.readouterr()
    run = read_run(tmp_path / "run")
    assert {score.subtype for score in run.variant("b").scores} == {1}


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--command", "own=nothing-here {image} {mask}"), "command own: nothing-here: no such program"),
        (("--command", "own=true {image} {mask}", "--protocol", "center-patch"), "predicts whole volumes"),
        (("--command", "own=true {image1} {mask}"), "command own: {image1}: a case has 1 file, counted from 0"),
    ],
)
def test_a_command_that_cannot_be_used_stops_the_run_before_it_begins(options, part, bench):
    code, summary, printed = bench("--backends", "torch-fp32", *options)
    assert (code, summary) == (2, {})
    assert part in printed
