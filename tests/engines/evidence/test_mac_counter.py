"""The arithmetic of multiply-accumulates."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engines.evidence.mac_counter import layers_of
from engines.layers import Layer
from engines.pytorch import session
from models.model import Model


def test_counts_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1),  # 4 x 6^3 outputs, each 2 x 27
        nn.ConvTranspose3d(4, 3, 2, 2),  # 4 x 6^3 inputs, each 3 x 8
        nn.Conv3d(3, 6, 3, groups=3, stride=2),  # 6 x 5^3 outputs, each 27
        nn.Flatten(),
        nn.Linear(750, 5),
    )
    macs = [layer.macs for layer in layers_of(network, (2, 2, 6, 6, 6))]
    assert macs == [2 * 4 * 216 * 54, 2 * 4 * 216 * 24, 2 * 6 * 125 * 27, 2 * 750 * 5]


def test_finds_every_layer_of_the_reference_network(model: Model) -> None:
    layers = layers_of(model.module, (1, 1, 32, 32, 32))
    assert len(layers) == 11 + 2 + 3
    assert layers[0] == Layer("enc1.0", (32**3, 4 * 27, 4 * 32**3), 32**3 * 4 * 27)


def test_the_sum_is_that_of_pytorchs_own_counter(model: Model) -> None:
    shape = (2, 1, 32, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.module(torch.zeros(shape))
    assert 2 * sum(layer.macs for layer in layers_of(model.module, shape)) == counter.get_total_flops()


class Entangled(nn.Module):
    """A dead head, and layers that reach the outputs in place, through views, detached or without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv3d(2, 2, 1) for _ in range(5))
        self.dead = nn.Conv3d(2, 7, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b, c, d, e = self.layers
        with torch.no_grad():
            y = a(x).detach()
        self.dead(y)
        z = torch.zeros_like(y)
        z[:, :1] += b(y)[:, :1].relu_()
        gated = torch.where(c(y).view(-1) > 0, z.view(-1), 0).view_as(z)
        return d(gated), e(gated).mean((2, 3, 4))


def test_layers_that_reach_no_output_do_not_count() -> None:
    names = [layer.name for layer in layers_of(Entangled(), (1, 2, 4, 4, 4))]
    assert names == [f"layers.{number}" for number in range(5)]


def test_a_layer_counts_by_its_calls() -> None:
    head = nn.Conv3d(1, 3, 1)

    class Supervised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, x: Tensor) -> Tensor:
            return [self.head(x), self.head(x[..., ::2])][0]

    assert [layer.macs for layer in layers_of(Supervised(), (1, 1, 4, 4, 4))] == [3 * 64]


@pytest.mark.parametrize(
    ("name", "multiplies"),
    [
        ("aten::cudnn_convolution", True),
        ("aten::addmm", True),
        ("mkldnn::_linear_pointwise", True),
        ("triton_tem_fused_mm_0", True),
        ("triton_poi_fused_convolution_leaky_relu_3", False),
        ("aten::leaky_relu", False),
    ],
)
def test_what_multiplies_in_a_trace(name: str, multiplies: bool) -> None:
    """As names of profiler events go; Inductor's second kernel here comes after a convolution that it does not do."""
    assert bool(session._MULTIPLIES.search(name)) == multiplies
