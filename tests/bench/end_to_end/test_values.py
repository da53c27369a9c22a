"""A network that gives NaN on tiles of air, through `bench`: it is named, and neither a class nor background."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.cli.main import main

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.seg, self.cls = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 3, 1), nn.Linear(4, 3)

    def forward(self, x):
        features = self.body((x - x.mean((2, 3, 4), keepdim=True)) / x.std((2, 3, 4), keepdim=True))
        return self.seg(features), self.cls(features.mean((2, 3, 4)))
"""
REASON = "case_0_0000.nii.gz: 2 of 4 tiles gave logits that are not finite (NaN); mend what gives them"


@pytest.fixture
def options(tmp_path) -> list[str]:
    """Of both commands; the second half of the one case is air."""
    (tmp_path / "net.py").write_text(NET)
    space: dict = {}
    exec(NET, space)
    torch.manual_seed(0)
    torch.save(space["Net"]().state_dict(), tmp_path / "net.pth")
    folder = tmp_path / "data" / "validation" / "subtype1"
    folder.mkdir(parents=True)
    hu = np.full((80, 32, 32), -1000, np.int16)
    hu[:32] = np.random.default_rng(0).normal(0, 300, (32, 32, 32))
    nib.save(nib.Nifti1Image(hu, np.eye(4)), folder / "case_0_0000.nii.gz")
    nib.save(nib.Nifti1Image((hu > 0).astype(np.uint8), np.eye(4)), folder / "case_0.nii.gz")
    return ["--checkpoint", str(tmp_path / "net.pth"), "--arch", f"{tmp_path / 'net.py'}:Net", "--tile", "32,32,32",
            "--data", str(tmp_path / "data")]  # fmt: skip


def test_a_baseline_that_gives_nan_ends_the_run(bench, options):
    code, _, printed = bench(*options, "--backends", "ort-fp32", "--rounds", "1")
    assert code == 4
    assert f"the baseline torch-fp32 failed: {REASON}" in printed
    record = json.loads(Path("run/variants/torch-fp32.json").read_text())
    assert record["status"] == "failed"
    assert record["reason"].startswith(REASON)
    assert record["reason"] in Path("run/report.md").read_text()


def test_a_scenario_of_it_ends_likewise(options, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    scenario = ["scenario", *options, "--device", "cpu", "--threads", "1", "--scenario", "cold"]
    assert main([*scenario, "--backend", "ort-fp32"]) == 4
    assert f"ort-fp32 failed: {REASON}" in capsys.readouterr().err
