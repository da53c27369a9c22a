"""What `inspect` tells, and how it reads as text."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cli.main import main
from models import inspection
from models.inspection import describe, inspect
from models.load import build_model
from models.model import Model, Plans
from models.networks.unet import BATCH, MultiTaskUNet, Shape
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from tests.loading import load

Save = Callable[..., Path]
KEYS = [
    "file", "file_bytes", "container", "keys", "wrappers_removed", "other_weights", "architecture",
    "architecture_reason", "width", "weights_sha256", "tile", "window", "labels", "painting", "subtypes", "plans",
    "mirror_axes", "bundle", "task", "tensors", "parameters", "weights_bytes", "dtypes", "nonfinite", "epoch",
    "metrics", "metadata", "ignored", "numpy", "remarks", "code_run",
]  # fmt: skip


def printed_json(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["inspect", "--format", "json", *options]) == 0
    read: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    return read


def test_reference_file(reference: dict[str, Any], saved: Save, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(reference)
    info = inspect(path)
    assert json.loads(json.dumps(info, allow_nan=False)) == info == printed_json(capsys, str(path))
    assert list(info) == KEYS
    assert info["weights_sha256"] == load(path)[0].sha256
    shown = {key: info[key] for key in ("architecture", "width", "container", "wrappers_removed", "epoch", "numpy")}
    assert shown == {
        "architecture": "multitask-unet", "width": 2, "container": "torch-zip",
        "wrappers_removed": ["model_state_dict"], "epoch": 93, "numpy": "2.x",
    }  # fmt: skip
    assert (info["ignored"], info["nonfinite"]) == (["optimizer_state_dict"], [])
    assert info["weights_bytes"] == 4 * info["parameters"] < info["file_bytes"] == path.stat().st_size
    assert (info["tile"], info["window"], info["labels"]) == ([64, 64, 64], [-1000.0, 1000.0], [0, 1, 2])
    assert (info["subtypes"], info["plans"], info["remarks"], info["code_run"]) == (3, None, [], [])


def test_text(reference: dict[str, Any], saved: Save) -> None:
    path = saved(reference)
    sha256 = load(path)[0].sha256
    text = describe(inspect(path))
    assert (
        text
        == f"""\
file                {path} ({path.stat().st_size / 1e6:.1f} MB)
container           torch-zip
keys                epoch, model_state_dict, optimizer_state_dict, metrics, cls_f1
wrappers removed    model_state_dict
code run            none
architecture        multitask-unet, width 2
recognised by       enc1.0.weight [2, 1, 3, 3, 3] tells the width, enc1 to enc4 the poolings, no
                    enc1.1.running_mean the norm; the names and shapes of all 52 tensors fit
task                pancreas
channels            CT [built in]
labels in masks     0 background, 1 pancreas, 2 lesion [built in]
classes             background in channel 0, pancreas in channel 1, lesion in channel 2
structures          whole pancreas (pancreas, lesion; NSD at 5 mm), lesion (lesion; NSD at 2 mm) [built in]
subtypes            3
tile                64 x 64 x 64 voxels
intensities         clipped to -1000 to 1000 HU, mapped to 0 to 1
parameters          237,440 in 52 tensors
weights             0.9 MB, float32
weights sha256      {sha256}
NaN or infinity     none
epoch               93
recorded metrics    pancreas_dice 0.91, lesion_dice 0.62, whole_dice 0.9, cls_f1 0.71
other values        none
ignored             optimizer_state_dict
numbers written by  numpy 2.x"""
    )


def test_a_network_with_batch_norms_says_what_was_done_to_it(saved: Save) -> None:
    info = inspect(saved(MultiTaskUNet(shape=Shape(2, 2, BATCH, True)).state_dict()))
    assert "enc1 to enc2 the poolings, enc1.1.running_mean the norm" in info["architecture_reason"]
    assert "\nremark              10 batch norms (eps 1e-5) folded into the convolutions" in describe(info)


def test_an_unknown_network_is_reported_not_refused(saved: Save) -> None:
    path = saved({"state_dict": {"model.\x1b[31mw": torch.ones(2)}, "loss": float("nan")})
    info = inspect(path)
    assert list(info) == KEYS
    assert info["architecture"] is None
    assert info["architecture_reason"].startswith("is not the reference U-Net")
    assert (info["wrappers_removed"], info["parameters"], info["metrics"]) == (
        ["state_dict", "model."],
        2,
        {"loss": None},
    )
    text = describe(info)
    assert "architecture        not recognised\n" in text
    assert "loss not finite" in text
    assert "\x1b" not in text


def test_nan_in_the_weights_is_reported(network: MultiTaskUNet, saved: Save) -> None:
    state = network.state_dict()
    state["seg_out.bias"][0] = float("nan")
    info = inspect(saved(state))
    assert (info["nonfinite"], info["weights_sha256"]) == (["seg_out.bias"], None)
    assert "NaN or infinity     seg_out.bias\n" in describe(info)


def test_odd_content_neither_crashes_nor_floods(saved: Save, capsys: pytest.CaptureFixture[str]) -> None:
    held: dict[Any, Any] = {f"key {i} " + "x" * 900: i for i in range(3000)}
    held |= {
        "\x1b[2J\r\n\u202e\ud800": "\x07" * 500, 7: [1], None: None, 8: 2**2000, "": float("inf"),
        "metrics": {"a\n": {"b": 1.0}},
        "args": {"deep": {"deep": {"deep": {"deep": {"deep": 1}}}}, "nan": float("nan"), "huge": -(2**1500)},
        "epoch": True, "state_dict": {f"w{i}\n" + "y" * 900: torch.tensor([float("nan")]) for i in range(500)},
    }  # fmt: skip
    path = saved(held)
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text) < 20_000
    assert f"and {len(held) - 12:,} more" in " ".join(text.split())
    info = printed_json(capsys, str(path))
    assert (len(info["nonfinite"]), info["metadata"]["args.nan"]) == (500, None)


def test_code_that_is_not_ours_is_named(network: MultiTaskUNet, saved: Save, tmp_path: Path) -> None:
    path, code = saved({"model": network.state_dict()}), tmp_path / "own.py"
    code.write_text("from torch import nn\n\ndef make():\n    return nn.Conv3d(1, 3, 1)\n")
    conv = saved(torch.nn.Conv3d(1, 3, 1).state_dict(), "conv.pth")
    info = inspect(conv, ModelOptions(arch=f"{code}:make", tile=(16, 16, 16)))
    assert (info["code_run"], info["subtypes"], info["tile"]) == ([f"--arch {code}:make"], 0, [16, 16, 16])
    assert f"code run            --arch {code}:make\n" in describe(info).replace("\n" + " " * 20, " ")
    assert "subtypes            none: its segmentation alone is used\n" in describe(info)
    assert inspect(path, ModelOptions(trust=path))["code_run"] == []  # it holds none


def test_plans_are_shown_in_the_place_of_a_window(
    network: MultiTaskUNet, saved: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    configurations = {
        "own": {"spacing": [2.5, 0.8, 0.8], "patch_size": [32, 64, 64], "normalization_schemes": ["CTNormalization"]}
    }
    planned = Plans({"configurations": configurations}, {}, "own")

    def build(checkpoint: Checkpoint, options: ModelOptions) -> tuple[Model, Checkpoint]:
        return replace(build_model(checkpoint, options), plans=planned), checkpoint

    monkeypatch.setattr(inspection, "build_fitting", build)
    info = inspect(saved(network.state_dict()))
    assert info["window"] is None
    assert info["plans"] == {
        "configuration": "own", "spacing": [2.5, 0.8, 0.8], "patch_size": [32, 64, 64],
        "normalization_schemes": ["CTNormalization"],
    }  # fmt: skip
    assert "\nnnU-Net plans       configuration own, spacing [2.5, 0.8, 0.8], patch size [32, 64, 64]" in describe(info)
