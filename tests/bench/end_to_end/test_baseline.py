"""Runs whose baseline is another than usual, through the command line and real workers."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench import accuracy
from bench.cli.main import main
from bench.errors import InputError
from bench.peers import PEERS
from tests.nnunet import train

FEW = 5  # cases, as of `bench`
OPENVINO, PEER = "openvino-fp32", "peer-nnunet"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint of nnU-Net's own trainer, and cases in its raw layout whose truth is a box."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")
    root, affine = tmp_path_factory.mktemp("trained"), np.diag([1.0, 1.0, 3.0, 1.0])
    for seed in range(FEW):
        hu = np.random.default_rng(seed).normal(80, 200, (24, 20, 12)).astype(np.int16)
        truth = np.zeros(hu.shape, np.uint8)
        truth[8:16, 4:10, 2:5], truth[10:12, 5:7, 3:4] = 1, 2
        for folder, voxels, ending in (("imagesVal", hu, "_0000"), ("labelsVal", truth, "")):
            (root / "raw" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, affine), root / "raw" / folder / f"case_{seed}{ending}.nii.gz")
    return train(root), root / "raw"


def test_a_backend_is_what_the_others_are_held_against(bench, capsys):
    _, summary, printed = bench("--baseline", OPENVINO, "--backends", "torch-fp32", "--rounds", "1")
    reference, result = summary["variants"]
    assert (summary["baseline"], reference["name"], result["name"]) == (OPENVINO, OPENVINO, "torch-fp32")
    assert (reference["verdict"], reference["speedup"]["estimate"]) == (None, 1)
    assert result["verdict"] in ("REFUTED", "INCONCLUSIVE", "CONFIRMED")
    for structure, scores in result["accuracy"]["structures"].items():
        for kind in ("dsc", "nsd"):
            assert scores[kind]["baseline"] == reference["accuracy"]["structures"][structure][kind]["value"]
    record = json.loads(Path("run/run.json").read_text())
    assert all({OPENVINO} < set(group) for group in record["groups"])
    assert printed.splitlines()[0].endswith(f"(baseline: {OPENVINO})")
    assert Path("run/report.md").read_text().splitlines()[0].endswith(f"(baseline: {OPENVINO})")
    assert main(["report", "run", "--format", "junit"]) == 0
    assert ET.fromstring(capsys.readouterr().out).find(".//property[@name='baseline']").get("value") == OPENVINO
    main(["compare", "run", "run"])
    assert f"The baseline of both runs is {OPENVINO}." in capsys.readouterr().out


def test_nnunets_predictor_is_the_reference_in_time_and_in_accuracy(bench, trained):
    checkpoint, data = map(str, trained)
    options = ("--checkpoint", checkpoint, "--data", data, "--backends", "torch-fp32,openvino-fp32")
    _, summary, _ = bench(*options, "--baseline", PEER, "--rounds", "1")
    reference, *results = summary["variants"]
    assert (reference["name"], reference["is_peer"], reference["status"]) == (PEER, True, "ok")
    assert summary["subject"] in (None, "torch-fp32", "openvino-fp32"), "a peer makes no claim"
    assert summary["controlled_settings"]["but the baseline"].startswith("a reference pipeline")
    for result in results:
        assert (result["status"], result["cases"]) == ("ok", FEW)
        assert result["accuracy"]["voxel_disagreement"] < 1e-3
        for scores in result["accuracy"]["structures"].values():
            assert (scores["dsc"]["state"], scores["dsc"]["cases"]) == ("kept", FEW)
    assert results[0]["verdict"] is not None, "plain PyTorch is judged like any other"
    times = summary["peers"]["times"]
    assert [(each["name"], each["voxel_disagreement"]) for each in times] == [(PEER, 0)]
    row = Path("run/report.md").read_text().partition("## Variants")[2].partition(f"| {PEER} ")[2].split("|")
    assert [cell.strip() for cell in row[1:3]] == ["baseline", "reference"]
    assert main(["check", "run", "--variant", PEER]) == 2


def test_a_baseline_that_cannot_be_had_is_one_line(bench, monkeypatch):
    code, _, printed = bench("--baseline", "nnunet")
    assert (code, printed.count("\n")) == (2, 1)
    assert "--baseline: unknown variant 'nnunet'; choose from torch-fp32, " in printed
    assert all(name in printed for name in PEERS)
    code, _, printed = bench("--baseline", "tensorrt-fp16", "--backends", "torch-fp32")
    assert code == 4
    assert "the baseline tensorrt-fp16 cannot run: " in printed


def test_a_baseline_that_places_its_mask_elsewhere_ends_the_run(bench, monkeypatch):
    def refuse(case, settings, task, values, prediction, *_):
        raise InputError(f"{prediction}: the mask does not lie on its image")

    monkeypatch.setattr(accuracy, "score", refuse)
    code, summary, printed = bench("--baseline", "peer-script", "--backends", "torch-fp32", "--rounds", "1")
    assert code == 4
    assert summary["verdict"] != "CONFIRMED"
    assert "the baseline peer-script failed: " in printed
