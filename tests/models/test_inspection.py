"""What `inspect` tells, and how it reads as text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.architecture import load_model
from models.inspection import describe, inspect
from models.unet import MultiTaskUNet

Save = Callable[..., Path]


def test_reference_file(reference: dict[str, Any], saved: Save) -> None:
    path = saved(reference)
    info = inspect(path)
    assert json.loads(json.dumps(info, allow_nan=False)) == info
    assert info["weights_sha256"] == load_model(path)[0].sha256
    told = {key: info[key] for key in ("architecture", "width", "container", "wrappers_removed", "epoch", "numpy")}
    assert told == {
        "architecture": "multitask-unet", "width": 2, "container": "torch-zip",
        "wrappers_removed": ["model_state_dict"], "epoch": 93, "numpy": "2.x",
    }  # fmt: skip
    assert (info["ignored"], info["nonfinite"]) == (["optimizer_state_dict"], [])
    assert info["weights_bytes"] == 4 * info["parameters"] < info["file_bytes"] == path.stat().st_size


def test_text(reference: dict[str, Any], saved: Save) -> None:
    text = describe(inspect(saved(reference)))
    assert "architecture        multitask-unet, width 2\n" in text
    assert "recorded metrics    pancreas_dice 0.91, lesion_dice 0.62, whole_dice 0.9, cls_f1 0.71\n" in text
    assert "ignored             optimizer_state_dict\n" in text


def test_an_unknown_network_is_told_not_refused(saved: Save) -> None:
    path = saved({"state_dict": {"model.\x1b[31mw": torch.ones(2)}, "loss": float("nan")})
    info = inspect(path)
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


def test_nan_in_the_weights_is_told(network: MultiTaskUNet, saved: Save) -> None:
    state = network.state_dict()
    state["seg_out.bias"][0] = float("nan")
    info = inspect(saved(state))
    assert (info["nonfinite"], info["weights_sha256"]) == (["seg_out.bias"], None)
    assert "NaN or infinity     seg_out.bias\n" in describe(info)
