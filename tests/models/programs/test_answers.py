"""Whether a network gives a program's answers."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.model import Model
from models.programs.answers import Answers, relative_error

TILES = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """Its input in two classes, and two votes that are multiplied by `factor`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.repeat(1, 2, 1, 1, 1), torch.ones(1, 2) * self.factor


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_no_answer(factor: float) -> None:
    same = Model(module=Network(1.0), architecture="", width=1, tile=(4, 4, 4), window=(0.0, 1.0), sha256="")
    answers = Answers(TILES, *same.module(TILES))
    assert relative_error(same, answers) == 0
    assert not math.isfinite(relative_error(replace(same, module=Network(factor)), answers))
