"""The reference network: recognised by its tensors, built from them, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.architecture import load_model
from models.checkpoint import CheckpointError
from models.unet import MultiTaskUNet

Save = Callable[..., Path]


@pytest.mark.parametrize(("width", "parameters"), [(8, 1_609_934), (16, 5_908_630), (32, 22_970_150)])
def test_parameter_counts(width: int, parameters: int) -> None:
    with torch.device("meta"):
        module = MultiTaskUNet(width)
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_any_width_is_built_bit_equal(width: int, saved: Save) -> None:
    source = MultiTaskUNet(width).eval()
    model, _ = load_model(saved({"state_dict": source.state_dict()}))
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert all(map(torch.equal, model.module(image), source(image)))
    assert (model.width, model.architecture) == (width, "multitask-unet")
    assert (model.tile, model.window) == ((64, 64, 64), (-1000.0, 1000.0))
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())


def test_hash_tells_weights_not_files(network: MultiTaskUNet, saved: Save) -> None:
    state = network.state_dict()
    prefixed = {f"module.{name}": tensor for name, tensor in reversed(state.items())}
    paths = [
        saved(state, "bare.pth"),
        saved({"ema": prefixed, "epoch": 1}, "wrapped.pth"),
        saved({"model": state}, "legacy.pth", _use_new_zipfile_serialization=False),
        saved({name: tensor.double() for name, tensor in state.items()}, "double.pth"),
    ]
    assert len({load_model(path)[0].sha256 for path in paths}) == 1
    state["seg_out.bias"][0] += 1e-3
    assert load_model(saved(state))[0].sha256 != load_model(paths[1])[0].sha256


def test_widened_on_the_way(network: MultiTaskUNet, saved: Save) -> None:
    path = saved(network.state_dict())
    narrow, (wide, _) = load_model(path)[0], load_model(path, widen_to=4)
    assert (wide.width, wide.module.training) == (4, False)
    assert wide.sha256 != narrow.sha256
    assert refused(path, widen_to=3) == (
        "cannot be widened: width 3 is not a multiple of the network's width 2; ask for a multiple of it"
    )


def refused(path: Path, widen_to: int | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path, widen_to)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


def test_another_network_is_refused_by_names(network: MultiTaskUNet, saved: Save) -> None:
    state = network.state_dict()
    del state["enc2.0.weight"], state["seg_out.bias"]
    state["attention.weight"] = torch.ones(1)
    state["classifier.7.weight"] = torch.ones(4, 256)
    assert refused(saved(state)) == (
        "is not the reference U-Net (multitask-unet, width 2); its tensors: "
        "2 missing (enc2.0.weight, seg_out.bias), 1 unexpected (attention.weight), "
        "1 of another shape (classifier.7.weight [4, 256] instead of [3, 256]); "
        "give a checkpoint of multitask-unet, of any width"
    )


def test_a_long_list_of_differences_is_cut(saved: Save) -> None:
    message = refused(saved(torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(9))).state_dict()))
    assert "52 missing (enc1.0.weight, enc1.0.bias, enc1.3.weight and 49 more)" in message
    assert "18 unexpected (0.weight, 0.bias, 1.weight and 15 more)" in message


@pytest.mark.parametrize("shape", [(0, 1, 3, 3, 3), (2, 1, 3, 3), (10**6, 1), ()])
def test_a_width_that_makes_no_sense(network: MultiTaskUNet, saved: Save, shape: tuple[int, ...]) -> None:
    state = network.state_dict() | {"enc1.0.weight": torch.ones(shape)}
    assert "enc1.0.weight" in refused(saved(state))


def test_diverged_weights_are_refused(network: MultiTaskUNet, saved: Save) -> None:
    state = network.state_dict()
    state["dec1.0.bias"][1] = float("nan")
    state["up1.weight"][0] = float("inf")
    assert "holds NaN or infinity in up1.weight, dec1.0.bias;" in refused(saved(state))


def test_integer_weights_are_refused(network: MultiTaskUNet, saved: Save) -> None:
    state = network.state_dict() | {"seg_out.bias": torch.ones(3, dtype=torch.int8)}
    assert "not 16, 32 or 64 bit floats (seg_out.bias torch.int8)" in refused(saved(state))
