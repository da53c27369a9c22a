"""The main job through real worker processes: verdicts, faults, interruption and resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bench.run
import engines
from bench.cli.main import main
from bench.schedule import fleet
from bench.worker.process import WorkerProcess
from engines.base import Backend
from reports.records.store import samples_path
from reports.stats.power import ENOUGH_FOR_F1
from tests.bench.forked import running_workers
from tests.bench.run_files import put_samples, read_samples

CASES = 5  # those of `bench` where a test does not say otherwise


def fault(monkeypatch, kind: str, name: str = "faulty") -> None:
    monkeypatch.setitem(engines.BACKENDS, name, Backend("tests.bench.faulty:Faulty", "fp32"))
    monkeypatch.setenv("FAULT", kind)


def row(summary: dict, name: str) -> dict:
    return next(backend for backend in summary["variants"] if backend["name"] == name)


def test_the_baseline_against_itself_is_never_confirmed(bench):
    code, summary, _ = bench("--backends", "torch-fp32,torch-fp32", "--rounds", "2")
    # On a noisy machine two rounds may leave it open; what must not happen is a claim.
    assert (code, summary["verdict"]) in ((1, "REFUTED"), (3, "INCONCLUSIVE"))
    result = row(summary, "torch-fp32#2")
    assert result["verdict"] != "CONFIRMED"
    assert result["accuracy"]["voxel_disagreement"] == 0
    whole = result["accuracy"]["structures"]["whole pancreas"]["dsc"]
    assert (whole["value"], whole["delta"], whole["low"]) == (1.0, 0.0, 0.0)
    _check_files(Path("run"), summary)


def _check_files(run: Path, summary: dict) -> None:
    report = (run / "report.md").read_text()
    assert report.startswith(f"# {summary['verdict']}: ")
    assert "](report.svg)" in report
    assert (run / "report.svg").read_text().startswith("<svg ")
    lines = (run / "cases.csv").read_text().splitlines()
    assert len(lines) > 2 * 2 * CASES
    masks = sorted(path.name for path in (run / "predictions" / "torch-fp32").iterdir())
    assert masks[-1] == "subtype_results.csv"
    assert masks[0] == "quiz_0_000.nii.gz"
    assert len(masks) == CASES + 1
    table = (run / "predictions" / "torch-fp32" / "subtype_results.csv").read_text().splitlines()
    assert table[0] == "Names,Subtype"
    assert table[1].startswith("quiz_0_000.nii.gz,")
    assert not (run / "repeats").exists()
    assert not list(run.rglob("*.unfinished"))


def test_a_backend_that_is_really_faster_is_confirmed_on_a_fresh_pass(bench, limit, monkeypatch):
    limit(launches=3, confirmation=True)
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    fault(monkeypatch, "slow=0.1", "torch-fp32")
    options = ("--backends", "plain", "--rounds", "1", "--require", "plain", "--max-cases", str(ENOUGH_FOR_F1))
    code, summary, printed = bench(*options)
    assert (code, summary["verdict"], summary["best"]) == (0, "CONFIRMED", "plain")
    assert printed.startswith("CONFIRMED: plain")
    assert main(["check", "run"]) == 0
    assert main(["check", "run", "--min-reduction", "99"]) == 1
    assert main(["check"]) == 0, "runs/latest leads to the newest run, wherever it is"
    phases = [sample["phase"] for sample in read_samples("plain")]
    assert (phases.count("interleaved"), phases.count("confirmation")) == (ENOUGH_FOR_F1, 3 * ENOUGH_FOR_F1)
    for name in ("torch-fp32", "plain"):
        record = json.loads(Path(f"run/variants/{name}.json").read_text())
        samples = read_samples(name)
        launches = [(s["phase"], s["launch"], s["round"]) for s in samples]
        expected = [("interleaved", 0, 0)] * ENOUGH_FOR_F1
        for number in (1, 2, 3):
            expected += [("warmup", number, 0)] + [("confirmation", number, number - 1)] * ENOUGH_FOR_F1
        assert launches == [("warmup", 0, 0), *expected]
        assert {"passes", "passes_1", "passes_2", "passes_3"} < record["warmup"].keys()
        for sample in samples:
            assert sample["system_load"]["others"] >= 0
            mean = sample["usage"]["memory_byte_s"] / (sample["case_ns"] * 1e-9)
            assert mean > 0.3 * record["peak_memory_bytes"], "the memory of the worker, not of something small"
            assert sample["usage"]["flare_memory_mb_s"] > 0
    assert not running_workers(), "every worker of every launch is gone"
    _check_half_done_is_finished()


def _check_half_done_is_finished() -> None:
    """Left within its second launch: the first one keeps its samples, the others are made anew as a whole."""
    before = {name: read_samples(name) for name in ("torch-fp32", "plain")}
    launch = 1 + ENOUGH_FOR_F1  # with the case before anything counts
    for name, samples in before.items():
        put_samples(name, samples[: 2 * launch + 1 + (3 if name == "torch-fp32" else 2)])
        path = Path(f"run/variants/{name}.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "pending"}))
    run = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(run | {"status": "interrupted"}))
    assert main(["run", "--resume", "--out", "run"]) == 0
    for name, samples in before.items():
        launches = []
        for place in (("interleaved", 0), ("confirmation", 0), ("confirmation", 1), ("confirmation", 2)):
            ours, theirs = (
                [s for s in some if (s["phase"], s["round"]) == place] for some in (samples, read_samples(name))
            )
            assert len(theirs) == ENOUGH_FOR_F1
            kept = place in (("interleaved", 0), ("confirmation", 0))
            assert (ours == theirs) == kept, "what was complete is kept, the rest is new"
            launches += {s["launch"] for s in theirs}
        assert len(set(launches)) == 4, "one for each"


def test_in_a_race_losers_leave_and_one_round_settles_it(bench, limit, monkeypatch):
    limit(confirmation=True)
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    monkeypatch.setitem(engines.BACKENDS, "lossy", Backend("tests.bench.faulty:Shifted", "fp32"))
    monkeypatch.setitem(engines.BACKENDS, "slowest", Backend("tests.bench.faulty:Slow", "fp32"))
    fault(monkeypatch, "slow=0.1", "torch-fp32")
    code, summary, _ = bench("--backends", "plain,lossy,slowest", "--max-cases", str(ENOUGH_FOR_F1))
    assert (code, summary["verdict"], summary["best"], summary["rounds"]) == (0, "CONFIRMED", "plain", 1)
    assert row(summary, "slowest")["left"].startswith("slower than the claim beyond doubt after 5 pairs of samples")
    assert row(summary, "lossy")["left"].startswith("its accuracy lost: ")
    assert row(summary, "plain")["left"] is None
    assert row(summary, "slowest")["time_reduction_pct"]["high"] < 0
    assert row(summary, "lossy")["accuracy"]["structures"]["lesion"]["dsc"]["delta"] < -0.005
    assert row(summary, "lossy")["accuracy"]["voxel_disagreement"] > 0
    assert row(summary, "slowest")["verdict"] == row(summary, "lossy")["verdict"] == "REFUTED"
    for name, samples in (("slowest", 5), ("lossy", ENOUGH_FOR_F1), ("plain", ENOUGH_FOR_F1)):
        assert [s["phase"] for s in read_samples(name)].count("interleaved") == samples
    assert "slowest left the rounds before their end: slower than the claim" in Path("run/report.md").read_text()

    before = {name: _undo_confirmation(name) for name in ("torch-fp32", "plain", "lossy", "slowest")}
    Path("run/run.json").write_text(Path("run/run.json").read_text().replace('"complete"', '"interrupted"'))
    assert main(["run", "--resume", "--out", "run"]) == 0
    for name, samples in before.items():
        after = [sample for sample in read_samples(name) if sample["phase"] == "interleaved"]
        assert after == samples, "who has left stays so, and nobody races again"


def test_in_a_race_the_slower_wait_until_the_accuracy_of_the_fastest_is_known(bench, monkeypatch):
    for name in ("shifted", "medium", "late"):
        monkeypatch.setitem(engines.BACKENDS, name, Backend(f"tests.bench.faulty:{name.capitalize()}", "fp32"))
    fault(monkeypatch, "slow=0.18", "torch-fp32")
    _, summary, printed = bench("--backends", "shifted,medium,late", "--max-cases", str(ENOUGH_FOR_F1))
    notes = [line for line in printed.splitlines() if line.startswith("waiting until the accuracy of what is faster")]
    waited = [name for note in notes for name in note.partition(": ")[2].split(", ")]
    assert {"late"} <= set(waited) <= {"medium", "late"}, "whether 45 ms are enough to wait depends on the machine"
    assert "late" in notes[0]
    assert row(summary, "shifted")["left"].startswith("its accuracy lost")
    assert row(summary, "medium")["left"] is None
    reason = row(summary, "late")["left"].partition(" after ")[0]  # how few samples spread is the machine's
    assert reason in ("beaten beyond doubt", "not 10 % faster beyond doubt")
    counts = {name: [s["phase"] for s in read_samples(name)].count("interleaved") for name in ("shifted", "medium")}
    assert counts["shifted"] == ENOUGH_FOR_F1 <= counts["medium"]
    rest, baseline = ([s for s in read_samples(name) if s["round"] == 1] for name in ("medium", "torch-fp32"))
    assert {s["case"] for s in rest} == {s["case"] for s in baseline}, "what waited has a baseline of its own"
    assert [s["phase"] for s in read_samples("torch-fp32")].count("interleaved") == ENOUGH_FOR_F1 + len(rest)
    assert row(summary, "medium")["accuracy"]["cases"] == ENOUGH_FOR_F1


@pytest.mark.parametrize(("budget", "samples"), [("0", 5), ("600", 8)])
def test_a_reference_pipeline_leaves_once_it_is_known_and_the_budget_is_spent(
    bench, limit, monkeypatch, budget, samples
):
    limit(rounds=2)
    monkeypatch.setattr("reports.decision.racing.WIDEST", 1e9)  # so that whatever is timed is known
    options = ("--backends", "torch-fp32,torch-fp32,peer-script", "--budget", budget)
    _, summary, _ = bench(*options, "--max-cases", "8")
    had = [s["phase"] for s in read_samples("peer-script")].count("interleaved")
    assert had == samples if budget == "0" else had >= samples
    assert bool(row(summary, "peer-script")["left"]) == (budget == "0")
    assert [s["phase"] for s in read_samples("torch-fp32")].count("interleaved") >= 8


def _undo_confirmation(name: str) -> list[dict]:
    """Leave a variant as the end of the rounds did, and give its samples in them."""
    path = Path(f"run/variants/{name}.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "pending"}))
    put_samples(name, [sample for sample in read_samples(name) if sample["phase"] != "confirmation"])
    return [sample for sample in read_samples(name) if sample["phase"] == "interleaved"]


def test_classes_that_are_uncertain_are_computed_again(bench, monkeypatch):
    fault(monkeypatch, "misclassified")
    _, summary, _ = bench("--backends", "faulty")
    result = row(summary, "faulty")
    assert (result["accuracy"]["class_flips"], result["checked_classes"]) == (0, CASES)
    said = f"faulty: in {CASES} of {CASES} cases lower precision left the class uncertain"
    assert said in Path("run/report.md").read_text()


def test_rounds_are_launched_anew_once_the_last_launch_is_amortised(bench, limit, monkeypatch):
    """And the confirmation has as many launches as the rounds before, where these are more than the least."""
    limit(relaunch_cost=0, confirmation=True)
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    fault(monkeypatch, "slow=0.1", "torch-fp32")
    _, summary, _ = bench("--backends", "plain", "--rounds", "2")
    for name in ("torch-fp32", "plain"):
        record = json.loads(Path(f"run/variants/{name}.json").read_text())
        places = {(s["phase"], s["launch"], s["round"]) for s in read_samples(name) if s["phase"] != "warmup"}
        assert places == {("interleaved", 0, 0), ("interleaved", 1, 1), ("confirmation", 2, 0), ("confirmation", 3, 1)}
        assert {"passes", "passes_1", "passes_2", "passes_3"} <= record["warmup"].keys()
    assert (row(summary, "plain")["launches"], summary["confirmation"]["launches"]) == (2, 2)


def test_a_backend_that_does_not_open_again_has_failed(bench, limit, monkeypatch, tmp_path):
    limit(launches=3, confirmation=True)
    monkeypatch.setitem(engines.BACKENDS, "plain", Backend("tests.bench.unstartable:Unstartable", "fp32"))
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    fault(monkeypatch, "slow=0.1", "torch-fp32")
    code, summary, _ = bench("--backends", "plain", "--rounds", "1", "--require", "plain")
    result = row(summary, "plain")
    assert (code, result["status"], result["reason"]) == (4, "failed", "launch 2: RuntimeError: no second restart")
    samples = read_samples("torch-fp32")
    assert max(s["round"] for s in samples if s["phase"] == "confirmation") == 0, "alone it confirms nothing"


def test_no_difference_on_few_cases_does_not_read_as_proof(bench, monkeypatch):
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    fault(monkeypatch, "slow=0.1", "torch-fp32")
    code, summary, printed = bench("--backends", "plain", "--rounds", "1")
    result = row(summary, "plain")
    assert (result["speed_claim"]["verdict"], result["accuracy"]["class_flips"]) == ("CONFIRMED", 0)
    assert (code, summary["verdict"]) == (3, "INCONCLUSIVE")
    assert "16 cases would settle it" in printed


REASONS = {
    "killed": "killed by SIGKILL; most often the system ran out of memory",
    "hungry": "memory",
    "raising": "the runtime broke",
    "frozen": "the clock of its process is wrong: it counted",
    "overflowing": "1 of 1 tiles gave logits that are not finite (infinite)",
    "crashing": "killed by SIGSEGV",
    "lying": "bf16",
}


def test_a_fault_costs_one_row_with_its_log(bench, monkeypatch):
    for kind in REASONS:
        monkeypatch.setitem(engines.BACKENDS, kind, Backend(f"tests.bench.faulty:{kind.title()}", "fp32"))
    names = ",".join(REASONS)
    code, summary, printed = bench("--backends", f"{names},torch-fp32,torch-fp32", "--rounds", "1", "--require", names)
    assert code == 4
    for kind, reason in REASONS.items():
        assert kind in printed
        _check_failed(row(summary, kind), reason)
    assert row(summary, "torch-fp32#2")["status"] == "ok"
    assert row(summary, "torch-fp32#2")["latency_s"]["median"] > 0


def test_a_hung_backend_costs_one_row_with_its_log(bench, monkeypatch):
    fault(monkeypatch, "hung")
    options = ("--backends", "faulty,torch-fp32,torch-fp32", "--rounds", "1", "--timeout", "20", "--require", "faulty")
    code, summary, _ = bench(*options)
    assert code == 4
    _check_failed(row(summary, "faulty"), "no answer within")
    assert row(summary, "torch-fp32#2")["status"] == "ok"


def _check_failed(result: dict, reason: str) -> None:
    assert (result["status"], result["verdict"]) == ("failed", None)
    assert reason in result["reason"]
    assert Path("run", result["log"]).is_file()


def test_a_failed_baseline_ends_the_run(bench, monkeypatch):
    fault(monkeypatch, "killed", "torch-fp32")
    code, _, printed = bench("--backends", "torch-amp")
    assert code == 4
    assert "the baseline torch-fp32 failed: the worker was killed by SIGKILL" in printed


def test_backends_of_another_device_are_rows_with_a_reason(bench, monkeypatch):
    started: list[str] = []

    def counted(threads, log):
        started.append(log.stem)
        return WorkerProcess(threads, log)

    monkeypatch.setattr(fleet, "WorkerProcess", counted)
    _, summary, _ = bench("--backends", "tensorrt-fp16,torch-tf32", "--rounds", "1")
    for name in ("tensorrt-fp16", "torch-tf32"):
        result = row(summary, name)
        assert result["status"] == "skipped"
        assert result["reason"]
        assert result["fix"]
    assert summary["verdict"] == "INCONCLUSIVE"
    assert started == ["torch-fp32"], "what cannot run starts no process of its own"


# `bench`, which does not measure the device's peak.
BENCH = """
from dataclasses import replace
from functools import partial
from bench import run
from bench.cli.main import entry
run.run = partial(run.run, limits=replace(run.DEFAULT, peak=False))
entry()
"""


def test_an_interrupt_keeps_what_was_measured_and_resume_finishes(network, data, tmp_path, monkeypatch, capsys, limit):
    command = [
        sys.executable, "-P", "-c", BENCH, "run", "--checkpoint", str(network[0]), "--data", str(data),
        "--backends", "torch-fp32,torch-fp32", "--rounds", "2", "--out", "run", "--max-cases", str(CASES),
        "--tile", "32,32,32", "--threads", "1",
    ]  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it is ignored
    )  # fmt: skip
    saved = samples_path(Path("run"), "torch-fp32#2")
    _wait(lambda: saved.exists() and saved.read_text().count('"interleaved"') >= 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "bench run --resume --out run" in errors
    assert "Traceback" not in errors
    before = read_samples("torch-fp32#2")
    assert Path("run/report.md").read_text().startswith("# INCONCLUSIVE")

    limit(confirmation=False)
    code = main(["run", "--resume", "--out", "run"])
    assert code in (1, 3)  # on a busy machine two equal backends may differ too much to say
    after = read_samples("torch-fp32#2")
    assert sum(sample["phase"] == "interleaved" for sample in after) == 2 * CASES
    kept = [sample for sample in before if sample in after]
    assert len(kept) >= 3, "complete cases keep their samples"
    capsys.readouterr()
    assert main(["run", "--resume", "--out", "run"]) == 2
    assert "complete" in capsys.readouterr().err
    assert main(["run", "--resume", "--out", "run", "--budget=60"]) == 2
    assert "--budget: --resume goes on with a run as it began, and only --out may stand" in capsys.readouterr().err


def test_a_killed_harness_leaves_no_worker_and_loses_nothing(network, data, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "VOXBENCH_CACHE": str(tmp_path / "cache"),
    }
    options = ["--checkpoint", str(network[0]), "--data", str(data), "--rounds", "50", "--out", "run"]
    options += ["--max-cases", str(CASES), "--tile", "32,32,32", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", BENCH, "run", "--backends", "torch-fp32,torch-fp32", *options],
        cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    saved = samples_path(tmp_path / "run", "torch-fp32#2")
    _wait(lambda: saved.exists() and saved.read_text().count('"interleaved"') >= 3)
    process.kill()
    process.wait()
    assert read_samples("torch-fp32#2", tmp_path / "run")
    _wait(lambda: not _workers_below(str(tmp_path)))


def _workers_below(folder: str) -> list[int]:
    import psutil

    result = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if "bench.worker.server" in (process.info["cmdline"] or []) and process.info["cwd"] == folder:
            result.append(process.pid)
    return result


def test_an_interrupt_before_the_first_backend_is_built_names_the_command_that_goes_on(
    network, data, tmp_path, monkeypatch, capsys, limit
):
    def interrupted(*_):
        raise KeyboardInterrupt

    limit(peak=True)
    monkeypatch.setattr(bench.run, "_peak", interrupted)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--checkpoint", str(network[0]), "--data", str(data), "--out", "run"]) == 130
    assert capsys.readouterr().err.endswith("To finish it: bench run --resume --out run\n")
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"


# `bench`, interrupted while the report's charts import Matplotlib for the first time, which breaks its next import.
INTERRUPTED_REPORT = """
import os, signal, sys
from bench import run
from bench.cli.main import entry
write = run.write_documents
def interrupted(*arguments):
    def stop(frame, event, _):
        if event == "call" and frame.f_code.co_name == "LineCollection":
            sys.settrace(None)
            os.kill(os.getpid(), signal.SIGINT)
    run.write_documents = write
    sys.settrace(stop)
    write(*arguments)
run.write_documents = interrupted
entry()
"""


def test_an_interrupt_while_the_report_is_written_is_what_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.chdir(tmp_path)
    Path("task.toml").write_text('channels = ["CT"]\n[labels]\nbackground = 0\npancreas = 1\nlesion = 2\n')
    copies = """=sh -c 'cp "${1%_0000.nii.gz}.nii.gz" "$2"' - {image} {mask}"""
    options = ["--data", str(data), "--task", "task.toml", "--max-cases", "2", "--rounds", "1", "--out", "run"]
    commands = [part for name in ("old", "new") for part in ("--command", name + copies)]
    run = subprocess.run(
        [sys.executable, "-P", "-c", INTERRUPTED_REPORT, "run", *options, "--baseline", "old", *commands],
        capture_output=True, text=True, timeout=300, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it is ignored
    )  # fmt: skip
    said = "interrupted while the report was written; the run is complete: see it with `bench report run`"
    assert run.stderr.splitlines()[-1] == f"bench: {said}"
    assert run.returncode == 130


def _wait(condition, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
