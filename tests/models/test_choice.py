"""Which of the weights in a file are taken, and what is said of it in `bench inspect` and the model's remarks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import CheckpointError
from models.inspection import inspect
from models.networks.unet import MultiTaskUNet
from models.options import ModelOptions
from tests.loading import load

Save = Callable[..., Path]
OTHER = {"w.weight": torch.ones(3, 3)}  # of no network here
ADAM = {"state": {0: {"exp_avg": torch.ones(3, 3)}, "enc1.0.weight": {"exp_avg": torch.ones(3, 3)}}}


def state(seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    return MultiTaskUNet(2).state_dict()


NET, TWIN = state(0), state(1)
DEEPSPEED = {"module": NET, "optimizer": ADAM, "class_weights": torch.ones(3), "ds_version": "0.14.4"}
TAKEN: list[tuple[dict[str, Any], str, list[str]]] = [
    (DEEPSPEED, "under module of the file", []),
    ({"generator": NET, "discriminator": OTHER}, "under generator of the file", ["discriminator"]),
    ({"run": {"best": NET}, "optim": {"state": OTHER}}, "under run.best of the file", []),
    ({"ema": {"decay": 0.9, "shadow": NET}}, "under ema.shadow of the file", []),
    ({"model": OTHER, "weights": NET}, "under weights of the file", ["model"]),
    ({"model": NET, "ema": TWIN}, "under model of the file", ["ema"]),
    ({**NET, "teacher": TWIN}, "at the top of the file", ["teacher"]),
]


@pytest.mark.parametrize(("held", "where", "others"), TAKEN, ids=[where for _, where, _ in TAKEN])
def test_the_weights_that_fit_are_taken_and_named(
    saved: Save, held: dict[str, Any], where: str, others: list[str]
) -> None:
    path = saved(held)
    model, checkpoint = load(path)
    assert torch.equal(model.module.state_dict()["seg_out.bias"], NET["seg_out.bias"])
    beside = f"; not used beside them: {', '.join(others)}" if others else ""
    assert model.remarks == (f"its weights are those {where}{beside}",)
    info = inspect(path)
    assert (info["architecture"], info["other_weights"], info["remarks"]) == (
        "multitask-unet", others, list(model.remarks),
    )  # fmt: skip
    assert tuple(info["wrappers_removed"]) == checkpoint.wrappers


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"student": NET, "teacher": TWIN}, "holds several sets of weights that fit (student, teacher)"),
        ({"model": OTHER, "a": NET, "b": TWIN}, "holds several sets of weights that fit (a, b)"),
        (
            {f"{side}.{name}": value for side in ("online", "target") for name, value in NET.items()},
            "holds several networks that fit, under online., target., and does not say which",
        ),
        ({"a": OTHER, "b": OTHER}, "is not the reference U-Net"),
        ({"model": {name: value for name, value in NET.items() if name != "seg_out.bias"}, "b": OTHER},
         "its tensors: 1 missing (seg_out.bias)"),
        ({"module": NET | {"seg_out.bias": torch.ones(4)}}, "1 of another shape (seg_out.bias [4] instead of [3])"),
        ({"model": NET | {"seg_out.bias": torch.full((3,), torch.nan)}, "ema": TWIN}, "holds NaN or infinity"),
        ({"optimizer": ADAM}, "holds no tensors among its keys (optimizer)"),
    ],
)  # fmt: skip
def test_nothing_is_guessed(saved: Save, held: dict[str, Any], said: str) -> None:
    path = saved(held)
    with pytest.raises(CheckpointError) as refused:
        load(path)
    assert said in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_counters_of_a_profiler_are_set_aside(saved: Save, prefix: str) -> None:
    counters = {"total_ops": torch.zeros(1, dtype=torch.float64), f"{prefix}enc1.total_params": torch.zeros(1)}
    path = saved({"model_state_dict": {prefix + name: value for name, value in NET.items()} | counters})
    model, _ = load(path)
    assert model.remarks == (
        "set aside: 2 counters that a FLOP profiler left among the weights (total_ops, enc1.total_params)",
    )
    assert torch.equal(model.module.state_dict()["seg_out.bias"], NET["seg_out.bias"])


def test_the_same_holds_for_code_of_the_users(saved: Save, tmp_path: Path) -> None:
    network = torch.nn.Conv3d(1, 3, 1)
    code = tmp_path / "own.py"
    code.write_text("from torch import nn\n\ndef make():\n    return nn.Conv3d(1, 3, 1)\n")
    options = ModelOptions(arch=f"{code}:make", tile=(16, 16, 16))
    own = network.state_dict()
    model, _ = load(saved({"other": OTHER, "net_b": own | {"total_ops": torch.zeros(1)}}), options)
    assert model.remarks[:2] == (
        "its weights are those under net_b of the file; not used beside them: other",
        "set aside: a counter that a FLOP profiler left among the weights (total_ops)",
    )
    with pytest.raises(CheckpointError, match="holds several sets of weights that fit"):
        load(saved({"a": own, "b": own}), options)
