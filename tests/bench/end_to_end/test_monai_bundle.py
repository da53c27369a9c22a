"""A MONAI bundle through `bench run`."""

import json
from pathlib import Path

import torch
from monai.bundle import init_bundle
from monai.networks.nets import UNet

DEFINITION = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
SCALING = {
    "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -400, "a_max": 400, "b_min": 0, "b_max": 1,
    "clip": True,
}  # fmt: skip


def test_a_bundle_is_run(bench, data, tmp_path):
    torch.manual_seed(0)
    network = UNet(**DEFINITION).eval()
    with torch.no_grad():  # random weights that label some of all three classes
        bias = next(each for name, each in reversed(list(network.named_parameters())) if name.endswith("bias"))
        bias -= network(torch.rand(1, 1, 32, 32, 32)).mean(dim=(0, 2, 3, 4))
    config = {
        "network_def": {"_target_": "UNet", **DEFINITION},
        "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "LoadImaged", "keys": "image"}, SCALING]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32]},
    }
    init_bundle(tmp_path / "bundle", network=network, inference_str=config)
    options = ["--backends", "torch-fp32,ort-fp32", "--rounds", "1", "--max-cases", "2"]
    _, result, printed = bench("--checkpoint", str(tmp_path / "bundle"), *options)
    assert Path("run/report.md").is_file(), printed
    record = json.loads(Path("run/run.json").read_text())
    checkpoint = record["checkpoint"]
    assert checkpoint["path"] == str(tmp_path / "bundle")
    assert (checkpoint["architecture"], checkpoint["subtypes"], checkpoint["labels"]) == ("MONAI UNet", 0, [0, 1, 2])
    assert "it has no classification: F1 is not applicable" in checkpoint["remarks"]
    assert record["settings"]["tile"] == [32, 32, 32]
    assert {row["name"]: row["status"] for row in result["variants"]} == {"torch-fp32": "ok", "ort-fp32": "ok"}
