"""A whole run on each device: the peak, the readings and the limits that its report states. CUDA where there is one."""

import json
from pathlib import Path

import pytest

from bench.cli.main import main
from reports.records.store import read_run

pytestmark = pytest.mark.usefixtures("started_workers")  # no library of a GPU is met by a fork
GPUS = [pytest.param(name, marks=pytest.mark.gpu) for name in ("cuda", "cuda:0")]


@pytest.fixture(autouse=True)
def without_peak():
    """Here it is measured."""


def rows(summary: dict) -> dict[str, dict]:
    return {backend["name"]: backend for backend in summary["variants"]}


@pytest.mark.parametrize("device", ["cpu", *GPUS])
def test_a_run_states_the_peak_of_its_device_and_the_share_reached(bench, device, capsys):
    _, summary, _ = bench("--device", device, "--backends", "torch-fp32@2", "--rounds", "1")
    peak, found = summary["peak_flops"], rows(summary)
    assert all(1e8 < rate < 1e17 for rate in peak.values()), peak
    assert ("tf32" in peak) == (device != "cpu")
    assert summary["peak_bytes_per_s"] > 0
    macs = json.loads(Path("run/run.json").read_text())["checkpoint"]["macs_per_tile"]
    for name in ("torch-fp32", "torch-fp32@2"):
        assert found[name]["status"] == "ok", found[name]["reason"]
        limit = found[name]["roofline"]
        assert limit["arithmetic_s"] == pytest.approx(2 * macs / peak["fp32"]), "one tile a case"
        assert limit["traffic_s"] > 0
        assert limit["floor_s"] == max(limit["arithmetic_s"], limit["traffic_s"])
        assert 0 < limit["share"] < 2
    assert main(["report", "run"]) == 0
    assert "## Roofline" in capsys.readouterr().out


@pytest.mark.parametrize("device", GPUS)
def test_a_run_on_a_gpu_tells_what_the_gpu_was_like(bench, device, capsys):
    _, summary, _ = bench("--device", device, "--backends", "torch-half,torch-graph,torch-fused", "--rounds", "2")
    found = rows(summary)
    for name in ("torch-fp32", "torch-half", "torch-graph", "torch-fused"):
        row = found[name]
        assert row["status"] == "ok", row["reason"]
        assert row["evidence"]["provider"].startswith("torch cuda")
        samples = read_run(Path("run")).variant(name).samples
        assert all(0 < sum(sample.stages_ns.values()) <= sample.case_ns for sample in samples), "events and the clock"
        assert row["peak_memory_bytes"] > 2**20
        if row["gpu"] is not None:  # None where the container hides NVML
            assert row["gpu"]["sm_mhz"] > 0
    assert summary["host"]["compute_capability"]
    assert summary["peak_flops"]["fp16"] > summary["peak_flops"]["fp32"]
    assert main(["report", "run"]) == 0
    printed = capsys.readouterr().out
    assert found["torch-fp32"]["gpu"] is None or "## The GPU during the run" in printed


@pytest.mark.gpu
def test_a_device_that_is_not_there_is_refused(bench):
    code, _, printed = bench("--device", "cuda:99")
    assert code == 2
    assert "there is no cuda:99; PyTorch sees cuda:0 (" in printed
