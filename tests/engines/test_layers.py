"""Operations of runtimes, matched with a network's layers."""

import pytest

from engines.layers import Layer, Tally


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
