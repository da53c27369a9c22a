"""`bench scenario` on real workers: three scenarios, the same masks, and errors of one line."""

import gzip
import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench import scenarios
from bench.cli.commands import scenario
from bench.cli.main import main
from bench.errors import BackendLostError, InputError
from bench.plan.request import Request
from bench.scenarios import (
    COLD,
    OFFLINE,
    SCENARIOS,
    SINGLE_STREAM,
    Scenarios,
    Timed,
    labels_sha256,
    percentile,
)
from bench.worker.messages import Open
from models.options import ModelOptions
from tests.bench.values import VALUES


def test_masks_are_compared_by_what_they_hold(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (9, 8, 7)).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "plain.nii")
    for name, level in (("a", 1), ("b", 9)):
        (tmp_path / f"{name}.nii.gz").write_bytes(gzip.compress((tmp_path / "plain.nii").read_bytes(), level))
    labels[3, 3, 3] = (labels[3, 3, 3] + 1) % 3
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "c.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() != (tmp_path / "b.nii.gz").read_bytes()
    a, b, c = (labels_sha256(tmp_path / f"{name}.nii.gz", VALUES) for name in "abc")
    assert a == b != c


@pytest.fixture
def here(network, data, tmp_path, monkeypatch):
    """The small network's files, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    return ["scenario", "--checkpoint", str(network[0]), "--data", str(data), "--device", "cpu", "--threads", "1"]


def test_three_scenarios_and_the_same_masks(here, capsys, tmp_path, monkeypatch, started_workers):
    monkeypatch.delenv("OMP_WAIT_POLICY")  # which the tests set
    assert main([*here, "--max-cases", "3", "--read-ahead", "1", "--out", "found.json"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "torch-fp32 on cpu, 1 thread, 3 cases"
    assert [line.split()[0] for line in printed[1:]] == [*SCENARIOS, "masks:"]
    assert printed[-1] == "masks: equal in all scenarios"
    result = json.loads((tmp_path / "found.json").read_text())
    assert result["masks_equal"] is True
    assert result["read_ahead"] == 1
    assert result["controlled_settings"]["threads"] == "1, waiting as OpenMP has it"
    for name in SCENARIOS:
        timed = result["timed"][name]
        assert len(timed["latencies_s"]) == len(result["cases"]) == 3
        assert 0 < timed["forward_share"] < 1
        assert timed["cases_per_s"] == pytest.approx(3 / timed["wall_s"])
        assert timed["p50_s"] <= timed["p90_s"] <= timed["p99_s"] == max(timed["latencies_s"])
        assert timed["peak_memory_bytes"] > 2**26
    # A cold case has the start of Python and PyTorch in it.
    assert min(result["timed"][COLD]["latencies_s"]) > max(result["timed"][SINGLE_STREAM]["latencies_s"])


def test_one_scenario_alone(here, capsys):
    assert main([*here, "--max-cases", "2", "--scenario", "offline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [OFFLINE]
    assert "cases/s, read-ahead 2, forward" in lines[1]


def test_where_no_case_is_read_ahead_nothing_says_so(here, capsys, tmp_path):
    assert main([*here, "--max-cases", "1", "--scenario", "single-stream", "--out", "measured.json"]) == 0
    assert capsys.readouterr().out.startswith("torch-fp32 on cpu, 1 thread, 1 case\n")
    assert json.loads((tmp_path / "measured.json").read_text())["read_ahead"] is None


def test_mirrored_tiles_are_averaged_in_every_scenario(here, data, network, tmp_path):
    options = ModelOptions(tile=(32, 32, 32))
    request = Request(
        checkpoint=network[0], model_options=options, data=data, device="cpu", max_cases=2, threads=1, tta="mirror:x"
    )
    found = scenarios.measure(request, None, (SINGLE_STREAM, OFFLINE), 1, tmp_path / "masks", Silent())
    assert found.masks_equal
    for name in found.cases:
        (image,) = data.glob(f"validation/*/{name}_0000.nii.gz")
        x = (
            torch.from_numpy(nib.load(image).get_fdata(dtype=np.float32).clip(-1000, 1000))
            .add(1000)
            .div(2000)[None, None]
        )
        with torch.inference_mode():
            logits = network[1](x)[0] + network[1](x.flip(2))[0].flip(2)
        mask = np.asanyarray(nib.load(tmp_path / "masks" / OFFLINE / f"{name}.nii.gz").dataobj)
        assert (mask != logits[0].argmax(0).numpy()).sum() <= 1, "two sums of the same numbers"
        assert (mask != network[1](x)[0][0].argmax(0).detach().numpy()).sum() > 100


class Silent:
    def start(self, task, total):
        pass

    def advance(self, doing=""):
        pass

    def note(self, line):
        pass

    def stand(self, rows):
        pass


def test_a_case_that_breaks_meanwhile_is_one_line_and_loses_no_mask(here, data, network, tmp_path, monkeypatch):
    cases = tmp_path / "cases"
    shutil.copytree(data, cases)
    images = sorted(cases.glob("validation/*/*_0000.nii.gz"), key=lambda path: path.name)
    make_plan = scenarios.make_plan

    def then_break(*arguments):
        plan = make_plan(*arguments)
        broken = Path(plan.record.cases[2].image)
        broken.write_bytes(broken.read_bytes()[:-99])
        return plan

    monkeypatch.setattr(scenarios, "make_plan", then_break)
    request = Request(checkpoint=network[0], data=cases, device="cpu", max_cases=4, threads=1)
    with pytest.raises(InputError, match=r"_0000\.nii\.gz: damaged or cut short") as caught:
        scenarios.measure(request, None, (OFFLINE,), 3, tmp_path / "masks", Silent())
    assert "\n" not in str(caught.value)
    assert len(images) > 4
    assert len(list((tmp_path / "masks" / OFFLINE).iterdir())) == 2


def test_a_worker_that_dies_is_one_line(here, network, data, tmp_path, monkeypatch):
    class Dying(scenarios.WorkerProcess):
        def ask(self, request, timeout_s):
            if not isinstance(request, Open):
                os.kill(self.pid, signal.SIGKILL)
            return super().ask(request, timeout_s)

    monkeypatch.setattr(scenarios, "WorkerProcess", Dying)
    request = Request(checkpoint=network[0], data=data, device="cpu", max_cases=2, threads=1)
    with pytest.raises(BackendLostError, match=r"torch-fp32 failed: the worker was killed by SIGKILL.*; log: .*\.log"):
        scenarios.measure(request, None, (COLD,), 1, tmp_path / "masks", Silent())


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (["--backend", "torch-fp32,torch-half"], "a scenario is run by one backend"),
        (["--backend", "all"], "a scenario is run by one backend"),
        (["--backend", "nothing"], "--backend: unknown backend 'nothing'; choose from torch-fp32, "),
        (["--backend", "torch-fp32@0"], "--backend: 'torch-fp32@0': a batch is a number of tiles"),
        (["--roi", "nothing"], "argument --roi: invalid choice: 'nothing'"),
        (["--backend", "tensorrt-fp16"], "--backend tensorrt-fp16: "),
        (["--scenario", "multi-stream"], "invalid choice: 'multi-stream'"),
        (["--read-ahead", "0"], "not a whole number of at least 1"),
    ],
)
def test_what_cannot_be_run(here, capsys, options, reported):
    try:
        code = main([*here, "--max-cases", "1", *options])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert reported in capsys.readouterr().err.splitlines()[-1]


def test_percentiles_are_loadgens():
    assert [percentile(range(100), p) for p in (50, 90, 99)] == [50, 90, 99]
    assert [percentile([3.0, 1.0, 2.0], p) for p in (50, 90, 99)] == [2, 3, 3]
    assert percentile([7.0], 50) == 7


def test_masks_that_differ_are_reported():
    timed = {name: Timed((1.0, 3.0), 4.0, 2.0, 2**20) for name in (SINGLE_STREAM, COLD)}
    text = scenario.text(Scenarios("a", "cpu", 2, {}, ("x", "y"), 2, timed, False))
    assert text.splitlines()[1:] == [
        "single-stream  p50 3.000 s, p90 3.000 s, p99 3.000 s, forward 50.0 % of the time, 1 MiB",
        "cold           p50 3.000 s, p90 3.000 s, p99 3.000 s, forward 50.0 % of the time, 1 MiB",
        "masks: NOT equal in all scenarios",
    ]
