"""What quantizers are fed with."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from engines.base import Calibration, EngineError, Target
from engines.onnx.export import calibration_batches
from models.model import Model


class Standardised(nn.Module):
    """NaN on a tile without spread."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = (x - x.mean((2, 3, 4), keepdim=True)) / x.std((2, 3, 4), keepdim=True)
        return x.repeat(1, 3, 1, 1, 1), torch.zeros(len(x), 3)


@pytest.mark.parametrize("batch", [1, 2])
def test_no_ranges_are_taken_from_tiles_that_are_not_finite(
    model: Model, target: Callable[..., Target], tiles: Callable[[int, int], Tensor], batch: int
) -> None:
    air = tiles(5, 1)
    air[0] = 0
    here = replace(target(batch=batch), calibration=Calibration(lambda: air, "air"))
    assert sum(map(len, calibration_batches(model, here))) == 5 + (batch - 1), "the last batch is filled"
    with pytest.raises(EngineError, match=r"^1 of 5 calibration tiles give logits that are not finite"):
        calibration_batches(replace(model, module=Standardised(), sha256="standardised"), here)


def test_tiles_are_looked_at_once_for_all_backends(
    model: Model, target: Callable[..., Target], tiles: Callable[[int, int], Tensor]
) -> None:
    class Counting(nn.Module):
        passes = 0

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            self.passes += 1
            return model.module(x)

    network = Counting()
    first, other = (replace(target(), calibration=Calibration(lambda: tiles(3, 1), sha256)) for sha256 in ("a", "b"))
    for here in (first, first, replace(other, cache=first.cache)):
        assert len(calibration_batches(replace(model, module=network), here)) == 3
    assert network.passes == 2 * 3, "other tiles are others"
