"""The reference network: recognised by its tensors, built from them, or refused by name."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import CheckpointError
from models.networks.batch_norm_folding import fold_batch_norms
from models.networks.unet import BATCH, INSTANCE, MultiTaskUNet, Shape
from models.options import ModelOptions
from models.task import PANCREAS
from models.task_file import task_from_values
from tests.loading import load

Save = Callable[..., Path]


@pytest.mark.parametrize(("width", "parameters"), [(8, 1_609_934), (16, 5_908_630), (32, 22_970_150)])
def test_parameter_counts(width: int, parameters: int) -> None:
    with torch.device("meta"):
        module = MultiTaskUNet(width)
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_any_width_is_built_bit_equal(width: int, saved: Save) -> None:
    source = MultiTaskUNet(width).eval()
    model, _ = load(saved({"state_dict": source.state_dict()}))
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
    assert len({load(path)[0].sha256 for path in paths}) == 1
    state["seg_out.bias"][0] += 1e-3
    assert load(saved(state))[0].sha256 != load(paths[1])[0].sha256


def test_widened_on_the_way(network: MultiTaskUNet, saved: Save) -> None:
    path = saved(network.state_dict())
    narrow, (wide, _) = load(path)[0], load(path, widen_to=4)
    assert (wide.width, wide.module.training) == (4, False)
    assert wide.sha256 != narrow.sha256
    assert refused(path, widen_to=3) == (
        "cannot be widened: width 3 is not a multiple of the network's width 2; ask for a multiple of it"
    )


def refused(path: Path, widen_to: int | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path, widen_to=widen_to)
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
        "give a checkpoint of multitask-unet, or name the code of your own network with --arch FILE.py:FACTORY"
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


def trained(shape: Shape) -> MultiTaskUNet:
    """A network whose norms are not those of initialisation."""
    torch.manual_seed(3)
    network = MultiTaskUNet(shape=shape).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith(("1.weight", "4.weight", "running_var")):
            tensor.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            tensor.normal_()
    return network


@pytest.mark.parametrize(("poolings", "side"), [(1, 8), (2, 8), (3, 16), (5, 32)])
def test_any_depth_is_built_bit_equal(poolings: int, side: int, saved: Save) -> None:
    source = trained(Shape(2, poolings))
    model, _ = load(saved(source.state_dict()), options=ModelOptions(tile=(64, 64, 64)))
    image = torch.rand(1, 1, side, side, 2 * side)
    with torch.inference_mode():
        assert all(map(torch.equal, model.module(image), source(image)))


def test_affine_norms_and_convolutions_without_bias(saved: Save) -> None:
    for affine, bias in ((True, True), (False, False), (True, False)):
        source = trained(Shape(2, 2, INSTANCE, affine, bias))
        model, _ = load(saved(source.state_dict()))
        image = torch.rand(1, 1, 8, 8, 8)
        with torch.inference_mode():
            assert all(map(torch.equal, model.module(image), source(image)))
        assert model.remarks == ()


@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
def test_batch_norms_are_folded(affine: bool, bias: bool, saved: Save) -> None:
    source = trained(Shape(2, 2, BATCH, affine, bias))
    image = torch.rand(1, 1, 16, 8, 8)
    exact = copy.deepcopy(source).double()
    folded = copy.deepcopy(exact)
    assert fold_batch_norms(folded) == 10
    model, _ = load(saved(source.state_dict()))
    with torch.inference_mode():
        true = exact(image.double())
        for output, expected in zip(folded(image.double()), true, strict=True):
            assert (output - expected).abs().max() <= 1e-12 * expected.abs().max()
        for output, expected in zip(model.module(image), true, strict=True):
            assert (output - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in model.module.modules())
    assert model.remarks == (
        "10 batch norms (eps 1e-5) folded into the convolutions before them, exact up to rounding",
    )


def test_instance_norms_with_running_statistics_are_what_batch_norms_are(saved: Save) -> None:
    source = trained(Shape(2, 2, BATCH, True))
    for block in [block for block in source.modules() if isinstance(block, nn.Sequential)]:
        for i, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm3d):
                block[i] = nn.InstanceNorm3d(layer.num_features, affine=True, track_running_stats=True)
                block[i].load_state_dict(layer.state_dict())
    model, _ = load(saved(source.eval().state_dict()))
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.inference_mode():
        for output, expected in zip(model.module(image), source(image), strict=True):
            assert (output - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_tile_that_the_poolings_do_not_divide_is_refused(saved: Save) -> None:
    path = saved(MultiTaskUNet(shape=Shape(2, 5)).state_dict())
    assert load(path, options=ModelOptions(tile=(32, 64, 96)))[0].tile == (32, 64, 96)
    with pytest.raises(CheckpointError, match="its poolings need tiles of multiples of 32, and 48 x 64 x 64 is not"):
        load(path, options=ModelOptions(tile=(48, 64, 64)))


def test_a_shape_is_named_where_it_is_not_the_references(saved: Save) -> None:
    state = MultiTaskUNet(shape=Shape(3, 2, BATCH, True)).state_dict()
    del state["dec1.3.weight"]
    assert refused(saved(state)).startswith(
        "is not the reference U-Net (multitask-unet, width 3, 2 poolings, BatchNorm); its tensors: 1 missing"
    )
    assert str(Shape(8, affine=True)) == "width 8, InstanceNorm with weights"


TASK = {
    "name": "brain", "channels": ["T1c", "FLAIR"], "labels": {"background": 0, "edema": 1, "core": 2},
    "structures": {"whole": {"labels": ["edema", "core"]}, "core": {"labels": [2]}},
    "regions": [{"structure": "core", "label": "core"}, {"structure": "whole", "label": 1}],
    "painting": ["whole", "core"],
}  # fmt: skip
FOR_TASK = Shape(2, 2, channels=2, classes=2, subtypes=0)


def test_a_checkpoint_carries_a_task_of_its_own(saved: Save) -> None:
    source = MultiTaskUNet(shape=FOR_TASK).eval()
    model, checkpoint = load(saved({"model": source.state_dict(), "task": TASK, "window": [0, 1000]}))
    image = torch.rand(2, 2, 16, 16, 16)
    with torch.inference_mode():
        segmentation, placeholder = model.module(image)
        assert torch.equal(segmentation, source(image)[0])
    assert (list(segmentation.shape), list(placeholder.shape)) == ([2, 2, 16, 16, 16], [2, 1])
    assert (model.labels, model.painting, model.subtypes, model.window) == ((2, 1), (1, 0), 0, (0.0, 1000.0))
    assert model.task.channels == ("T1c", "FLAIR")
    assert set(model.task.sources.values()) == {"in the checkpoint"}
    assert checkpoint.ignored == ()


def test_a_task_that_is_given_comes_first(saved: Save) -> None:
    given = task_from_values(TASK | {"name": "other"}, "--task")
    path = saved({"model": MultiTaskUNet(shape=FOR_TASK).state_dict(), "task": TASK})
    assert load(path, ModelOptions(task=given))[0].task is given
    assert load(saved(MultiTaskUNet(shape=FOR_TASK).state_dict()), ModelOptions(task=given))[0].task is given
    classifying = MultiTaskUNet(shape=replace(FOR_TASK, subtypes=4)).state_dict()
    assert load(saved(classifying), ModelOptions(task=given))[0].subtypes == 4


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (TASK | {"channels": ["T1c"]}, r"for the task brain, of 1 channel and 2 outputs; its tensors: 1 of another"),
        (TASK | {"regions": [], "painting": []}, r"of 2 channels and 3 outputs; its tensors: 2 of another shape"),
        (TASK | {"chanels": []}, "carries a task that cannot be used: unknown key chanels; known are"),
        ({}, r"2 poolings\); its tensors: .*; say what its channels and labels are with --task FILE.toml"),
    ],
)
def test_a_task_that_does_not_fit_is_one_line(task: dict[str, object], reason: str, saved: Save) -> None:
    path = saved({"model": MultiTaskUNet(shape=FOR_TASK).state_dict(), "task": task})
    with pytest.raises(CheckpointError, match=reason) as raised:
        load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("task", ["segment", {"lr": 0.1}, {"labels": 3}])
def test_something_else_under_the_names_of_task_and_window_changes_nothing(task: object, saved: Save) -> None:
    model, _ = load(saved({"model": MultiTaskUNet(2).state_dict(), "task": task, "window": [0, 64]}))
    assert (model.task is PANCREAS, model.window) == (True, (-1000.0, 1000.0))
