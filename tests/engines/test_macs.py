"""The arithmetic of multiply-accumulates."""

import pytest
from torch import nn

from engines.macs import Layer, Tally, layers_of
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
    assert len(layers) == 19 + 4 + 3
    assert layers[0] == Layer("enc1.0", (32**3, 4 * 27, 4 * 32**3), 32**3 * 4 * 27)


def test_an_operation_is_known_by_its_sizes_in_any_order() -> None:
    tally = Tally([Layer("conv", (100, 9, 300), 70), Layer("linear", (20, 60, 3), 30)])
    assert tally.add("int8", [(4, 25), (3, 10, 10)])  # input and output
    assert not tally.add("int8", [(4, 25), (3, 10, 10)])  # each layer once
    assert not tally.add("int8", [(20, 1), (7,)])  # one tensor of several is too little
    assert tally.share() == pytest.approx({"int8": 0.7, "unknown": 0.3})
    assert tally.add("fp32", [(60,)])  # a lone weight must do
    assert tally.share() == pytest.approx({"int8": 0.7, "fp32": 0.3})


def test_nothing_to_multiply_is_no_share() -> None:
    assert Tally([]).share() == {}
