"""`bench predict` through real worker processes: masks of the run, faults that cost a row, calls that go on."""

import csv
import json
import os
import runpy
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import engines
from bench.cli.exit_codes import BACKEND_LOST, BAD_INPUT, DONE, INTERRUPTED
from bench.cli.main import main
from bench.predict import batch
from bench.predict.batch import Batch
from bench.predict.journal import IN_FLIGHT, NAME
from bench.worker.in_flight import LABEL, READ, InFlight, Noted
from engines.base import Backend
from tests.bench.conftest import SIDE

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[3] / "scripts" / "predict_kills.py"))
TILE = f"{SIDE},{SIDE},{SIDE}"
NORMALISED = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.seg = nn.Conv3d(1, 3, 1)

    def forward(self, x):
        return self.seg((x - x.mean()) / x.std())
"""


@pytest.fixture
def images(data, tmp_path) -> Path:
    """Six cases without their truth, in one folder."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted(data.glob("validation/*/*_0000.nii.gz"), key=lambda path: path.name)[:6]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def predict(network, tmp_path, monkeypatch, capsys):
    """Call `bench predict` in a folder of its own; gives the exit code, the rows, and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]), prepend=os.pathsep)

    def call(source: Path, *options: object) -> tuple[int, dict[str, dict[str, str]], str, str]:
        of_checkpoint = () if (source / "run.json").exists() else ("--tile", TILE, "--device", "cpu")
        arguments = ["predict", source, *options, "--out", "out", "--threads", "1", *of_checkpoint]
        code = main([str(each) for each in arguments])
        printed, rows = capsys.readouterr(), {}
        assert "Traceback" not in printed.err + printed.out
        if Path("out/predictions.csv").exists():
            lines = Path("out/predictions.csv").read_text().splitlines()
            rows = {row["case"]: row for row in csv.DictReader(lines)}
        assert not Path("out", IN_FLIGHT).exists()
        return code, rows, printed.out, printed.err

    return call


def fault(monkeypatch, kind: str) -> None:
    monkeypatch.setitem(engines.BACKENDS, "faulty", Backend("tests.bench.faulty:Faulty", "fp32"))
    monkeypatch.setenv("FAULT", kind)


def statuses(rows: dict[str, dict[str, str]]) -> list[str]:
    return [rows[name]["status"] for name in sorted(rows)]


def test_masks_and_classes_are_those_of_the_run_and_a_broken_image_costs_one_row(bench, predict, images):
    bench("--backends", "torch-fp32", "--rounds", "1", "--max-cases", "16")
    broken, channel = images / "broken.nii.gz", images / "quiz_9_000_0000.nii.gz"
    broken.write_bytes(next(images.iterdir()).read_bytes()[:-60])
    for name in (channel.name, "quiz_9_000_0002.nii.gz"):
        shutil.copy(next(images.glob("quiz_0*")), images / name)
    options = ("--variant", "torch-fp32", "--report", "report.json")
    code, rows, out, err = predict(Path("run"), images, *options)
    assert code == BAD_INPUT
    assert statuses(rows) == ["failed", *["ok"] * 6, "failed"]
    assert "6 cases predicted; 2 failed" in out
    assert [line for line in err.splitlines() if "failed" in line] == [
        f"quiz_9_000 failed: {images.absolute() / 'quiz_9_000_0001.nii.gz'}: no such file, but quiz_9_000_0002.nii.gz "
        "is there; put in the channel that is missing",
        f"broken failed: {rows['broken']['reason']}",
    ]
    assert "broken.nii.gz: damaged or cut short" in rows["broken"]["reason"]
    names = [name for name, row in rows.items() if row["status"] == "ok"]
    theirs = dict(csv.reader(Path("run/predictions/torch-fp32/subtype_results.csv").read_text().splitlines()))
    for name in names:
        assert Path(f"out/{name}.nii.gz").read_bytes() == Path(f"run/predictions/torch-fp32/{name}.nii.gz").read_bytes()
        likely = [float(rows[name][f"probability_{n}"]) for n in (0, 1, 2)]
        assert str(np.argmax(likely)) == rows[name]["class"] == theirs[f"{name}.nii.gz"]
        assert sum(likely) == pytest.approx(1)
    _report_says_all(json.loads(Path("report.json").read_text()), names)

    broken.unlink()
    (images / "quiz_9_000_0002.nii.gz").unlink()
    channel.unlink()
    before = Path("out", NAME).read_bytes()
    code, _, out, _ = predict(Path("run"), images, "--variant", "torch-fp32")
    assert code == DONE
    assert "6 cases predicted, 6 of them before; 0 failed" in out
    assert Path("out", NAME).read_bytes() == before, "nothing was computed"
    code, _, out, _ = predict(network_of("run"), images)
    assert (code, "6 of them before" in out) == (DONE, True), "the same network by the same backend"
    code, _, _, err = predict(network_of("run"), images, "--overlap", "0.25")
    assert code == BAD_INPUT
    assert "out: holds predictions of something else (settings is torch-fp32, ROI none, overlap 0.5" in err

    shutil.copy(images / f"{names[0]}_0000.nii.gz", images / f"{names[0]}_0002.nii.gz")
    code, rows, _, _ = predict(Path("run"), images, "--variant", "torch-fp32")
    assert (code, rows[names[0]]["status"], statuses(rows).count("failed")) == (BAD_INPUT, "failed", 3)
    assert not Path(f"out/{names[0]}.nii.gz").exists(), "no mask beside a row that says failed"
    assert Path(f"out/{names[1]}.nii.gz").exists()


def network_of(run: str) -> Path:
    return Path(json.loads(Path(run, "run.json").read_text())["checkpoint"]["path"])


def _report_says_all(report: dict, names: list[str]) -> None:
    assert (report["schema"], report["predicted"], report["failed"], report["predicted_before"]) == (1, 6, 2, 0)
    assert report["identity"]["weights_sha256"]
    assert report["identity"]["variant"] == "torch-fp32"
    assert report["versions"]["torch"] == torch.__version__
    assert report["evidence"]["mac_share"] == {"fp32": 1.0}
    assert report["machine"]["cores"] >= 1
    assert 0 < report["forward_share"] < 1
    assert report["peak_memory_bytes"] > 2**26
    assert 0 < report["seconds"]["forward"] < report["seconds"]["cases"] < report["seconds"]["whole"]
    entries = {entry["case"]: entry for entry in report["cases"]}
    assert len(entries) == 8
    for name in names:
        entry = entries[name]
        assert {"read", "preprocess", "forward", "stitch", "write", "case"} <= entry["seconds"].keys()
        assert len(entry["mask_sha256"]) == 64
        assert entry["images"][0]["size"] > 0


def test_logits_that_are_not_finite_cost_one_row(predict, images, tmp_path):
    """And a network without classes has no columns for them."""
    (tmp_path / "net.py").write_text(NORMALISED)
    torch.save({"seg.weight": torch.randn(3, 1, 1, 1, 1), "seg.bias": torch.zeros(3)}, tmp_path / "net.pth")
    flat = nib.Nifti1Image(np.full((SIDE, SIDE, SIDE), 40, np.int16), np.eye(4))
    nib.save(flat, images / "a.nii.gz")
    code, rows, _, err = predict(tmp_path / "net.pth", images, "--arch", f"{tmp_path}/net.py:Net")
    assert code == BAD_INPUT
    assert statuses(rows) == ["failed", *["ok"] * 6]
    assert rows["a"]["reason"].startswith("a.nii.gz: 1 of 1 tiles gave logits that are not finite (NaN)")
    assert err.count("a failed: ") == 1
    assert list(rows["a"]) == ["case", "mask", "seconds", "status", "reason"]


def test_a_worker_that_crashes_costs_the_case_that_it_had(predict, images, network, monkeypatch):
    fault(monkeypatch, "killed")  # in each worker's third pass, whichever case that is of
    code, rows, out, _ = predict(network[0], images, "--backend", "faulty")
    assert code == BAD_INPUT
    failed = statuses(rows).count("failed")
    # A case whose mask was being written is run again, as another pass of a later worker: then there is one kill more.
    assert failed in (2, 3)
    assert statuses(rows)[2] == "failed"
    assert f"{6 - failed} cases predicted; {failed} failed" in out
    reasons = {row["reason"] for row in rows.values() if row["status"] == "failed"}
    assert reasons == {"the worker was killed by SIGKILL; most often the system ran out of memory"}


def test_what_breaks_again_and_again_ends_the_call_and_the_next_goes_on(predict, images, network, monkeypatch):
    monkeypatch.setattr(batch, "MOST_LOST", 1)
    fault(monkeypatch, "raising")
    code, rows, _, err = predict(network[0], images, "--backend", "faulty")
    assert (code, rows) == (BACKEND_LOST, {})
    last = err.splitlines()[-1]
    assert last.startswith(
        "bench: faulty failed: 1 workers were lost one after the other, the last time: RuntimeError:"
    )
    assert f"what was predicted is kept. To go on: bench predict {network[0]} {images}" in last
    monkeypatch.setenv("FAULT", "none")
    code, rows, out, _ = predict(network[0], images, "--backend", "faulty")
    assert code == DONE
    assert statuses(rows) == ["ok"] * 6
    assert "6 cases predicted, 2 of them before; 0 failed" in out


def test_a_worker_that_hangs_is_stopped(predict, images, network, monkeypatch):
    patience = batch._Patience
    monkeypatch.setattr(batch, "_Patience", lambda path, _: patience(path, 3.0))  # a build may take longer
    fault(monkeypatch, "hung")
    for path in sorted(images.iterdir())[3:]:
        path.unlink()
    code, rows, _, _ = predict(network[0], images, "--backend", "faulty")
    assert code == BAD_INPUT
    assert statuses(rows) == ["ok", "ok", "failed"]
    assert "not done within 3 s; its worker was stopped (--timeout gives it longer)" in [*rows.values()][2]["reason"]


@pytest.mark.parametrize(
    ("backend", "code", "said"),
    [
        ("tensorrt-fp16", BAD_INPUT, "bench: tensorrt-fp16: "),
        (
            "faulty",
            BACKEND_LOST,
            "bench: faulty cannot be opened: the worker was killed by SIGSEGV; log: out/worker.log",
        ),
    ],
)
def test_a_backend_that_cannot_be_opened_is_one_line(predict, images, network, monkeypatch, backend, code, said):
    fault(monkeypatch, "crashing")
    result, rows, out, err = predict(network[0], images, "--backend", backend)
    assert (result, rows, out) == (code, {}, "")
    assert next(line for line in err.splitlines() if line.startswith("bench: ")).startswith(said)


def test_an_interrupt_keeps_what_is_done_and_names_the_command(predict, images, network, monkeypatch):
    follow = Batch._follow

    def until_two(self: Batch) -> None:
        follow(self)
        if len(self._lines) >= 2:
            monkeypatch.setattr(Batch, "_follow", follow)
            raise KeyboardInterrupt

    monkeypatch.setattr(Batch, "_follow", until_two)
    monkeypatch.setattr(batch, "_EVERY_S", 0.001)
    fault(monkeypatch, "slow=0.2")
    code, _, _, err = predict(network[0], images, "--backend", "faulty")
    assert code == INTERRUPTED
    assert f"what was predicted is kept. To go on: bench predict {network[0]} {images}" in err
    assert len(list(Path("out").glob("*.nii.gz"))) in (1, 2)


def test_twelve_cases_and_a_kill(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))

    def in_this_process(folder: Path, options: list[str], _: object) -> None:
        assert main(SCRIPT["command_of"](folder, folder / "whole", options)[3:]) == DONE

    findings = SCRIPT["prove"](tmp_path, 12, 1, 2, ["--device", "cpu", "--threads", "1"], whole=in_this_process)
    assert findings.wrong == []
    assert findings.masks == 12
    assert 1 <= findings.kills[0] <= 12
    assert findings.lines == 12 + findings.again


def test_what_a_worker_has_in_hand_is_known_without_asking_it(tmp_path):
    path = tmp_path / "in-flight"
    assert InFlight.of(path).numbers == ()
    noted = Noted(path)
    assert InFlight.of(path) == InFlight()
    noted.take(READ, 7)
    labelled = noted.take(LABEL, 5)
    second = noted.take(READ, 8)
    assert InFlight.of(path).numbers == (5, 7, 8)
    noted.leave(labelled)
    assert InFlight.of(path).numbers == (7, 8)
    noted.leave(second)
    noted.take(READ, 9)
    assert InFlight.of(path).numbers == (7, 9), "in the place that was left"
    noted.close()


def test_patience_counts_for_each_case_and_stage_alone(tmp_path, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(batch.time, "monotonic", lambda: float(next(clock)))
    noted = Noted(tmp_path / "in-flight")
    patience = batch._Patience(tmp_path / "in-flight", 2.0)
    for number in range(4):  # of a case a second
        labelled = noted.take(LABEL, number)
        patience.look()
        if number < 3:
            noted.leave(labelled)
    noted.take(READ, 9)
    patience.look()
    noted.leave(labelled)
    patience.look()
    patience.look()
    with pytest.raises(batch._CaseError, match="not done within 2 s") as late:
        patience.look()
    assert late.value.number == 9
