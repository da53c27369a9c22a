"""The check of PyTorch's convolutions against float64: right ones pass, wrong ones are named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engines.base import EngineError, Target
from engines.host import cpu, known_faults
from engines.pytorch.self_check import check_convolutions

KINDS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (1, 3, 5), "padding": "same", "dilation": (1, 2, 1), "bias": False},
    {"kernel_size": 4, "stride": (1, 2, 3), "padding": (0, 1, 2), "groups": 2},
    {"kernel_size": 1},
    {"kernel_size": 2, "padding": "valid"},
]


class Network(nn.Module):
    def __init__(self, kind: dict[str, Any], inside: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(1, inside, 1), nn.Conv3d(inside, 8, **kind)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(x))
        return result


def target(tile: tuple[int, int, int], tmp_path: Path) -> Target:
    return Target("cpu", tile, 1, 1, tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "half"])
@pytest.mark.parametrize("tile", [(6, 7, 9), (16, 5, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_right_convolutions_pass(
    kind: dict[str, Any], tile: tuple[int, int, int], precision: str, tmp_path: Path
) -> None:
    check_convolutions(Network(kind), target(tile, tmp_path), precision)


@pytest.mark.parametrize("where", [(0, 0, 0), (-1, -1, -1)])
def test_a_wrong_corner_is_named(where: tuple[int, int, int], tmp_path: Path) -> None:
    network = Network(KINDS[0])

    def spoil(_layer: nn.Module, _inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        y[(..., *where)] += 1e-2
        return y

    network.second.register_forward_hook(spoil)
    with pytest.raises(EngineError, match=r"the layer second wrongly in fp32, at an input of 8 x 8 x 8 voxels"):
        check_convolutions(network, target((8, 8, 8), tmp_path), "fp32")


def test_values_that_are_not_finite_are_wrong(tmp_path: Path) -> None:
    network = Network(KINDS[0])
    network.second.register_forward_hook(lambda _layer, _inputs, y: y * torch.nan)
    with pytest.raises(EngineError, match="relative error nan"):
        check_convolutions(network, target((8, 8, 8), tmp_path), "fp32")


@pytest.mark.parametrize("weight", [torch.nan, torch.inf, 3e38])
def test_a_network_whose_own_values_are_not_finite_is_no_fault_of_pytorch(weight: float, tmp_path: Path) -> None:
    network = Network(KINDS[0]).requires_grad_(False)
    network.first.weight.fill_(weight)
    network.first.bias.zero_()
    network.second.weight.fill_(1)
    check_convolutions(network, target((8, 8, 8), tmp_path), "fp32")


def test_a_network_that_cannot_run_is_left_to_the_engine(tmp_path: Path) -> None:
    check_convolutions(Network(KINDS[0], inside=5).requires_grad_(False), target((0, 8, 8), tmp_path), "fp32")


def test_it_leaves_the_network_and_the_random_numbers_alone(tmp_path: Path) -> None:
    network = Network(KINDS[0])
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_convolutions(network, target((8, 8, 8), tmp_path), "half")
    assert torch.equal(torch.rand(3), expected)
    assert not network.second._forward_pre_hooks
    assert network.second.weight.dtype == torch.float32


@pytest.mark.skipif(
    known_faults.library_versions().get("onednn") != "3.12.0" or "AMX BF16" not in cpu.instruction_sets(),
    reason="oneDNN 3.12.0 is wrong here on processors with AMX only",
)
def test_the_fault_of_onednn_is_seen(tmp_path: Path) -> None:
    """https://github.com/pytorch/pytorch/issues/169688: a stride whose output is one voxel wide."""
    network = Network({"kernel_size": 3, "stride": (1, 2, 2), "padding": 1}, inside=32)
    with pytest.raises(EngineError, match="the layer second wrongly in bf16"):
        check_convolutions(network, target((4, 4, 2), tmp_path), "half")
    check_convolutions(network, target((4, 4, 2), tmp_path), "fp32")
