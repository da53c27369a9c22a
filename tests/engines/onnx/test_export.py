"""The graph that runtimes start from, and what quantizers are fed with."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from engines.base import Calibration, EngineError, Target
from engines.onnx.export import calibration_batches, onnx_file, write_graph
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


@pytest.mark.parametrize(("fixed", "batch"), [(False, None), (True, 3)])
def test_a_graph_for_elsewhere_takes_any_batch_that_its_code_takes(
    model: Model, target: Callable[..., Target], tmp_path: Path, fixed: bool, batch: int | None
) -> None:
    class OfThree(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.repeat(1, 3, 1, 1, 1), x.mean((2, 3, 4)) + torch.ones(3, 3)

    network = OfThree() if fixed else model.module
    write_graph(replace(model, module=network, sha256=f"{fixed}"), target(batch=3), tmp_path / "network.onnx")
    (image,) = onnx.load(tmp_path / "network.onnx").graph.input
    assert (image.type.tensor_type.shape.dim[0].dim_value or None) == batch


CODE = """
import torch

class Network(torch.nn.Module):
    def forward(self, x):
        secret_of_the_maker = torch.nn.functional.avg_pool3d(x, 3, 1, 1)
        return torch.cat([secret_of_the_maker] * 3, 1), secret_of_the_maker.mean((2, 3, 4)).repeat(1, 3)
"""


@pytest.mark.parametrize("half", [False, True])
def test_a_graph_says_neither_where_nor_of_which_code_it_was_made(
    model: Model, target: Callable[..., Target], tmp_path: Path, half: bool
) -> None:
    """So that it is the same file wherever this project and the user's code lie."""
    made = []
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
        code = tmp_path / place / "network.py"
        code.write_text(CODE)
        spec = importlib.util.spec_from_file_location("network_of_a_user", code)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        here = replace(target(), cache=tmp_path / place / "cache")
        file, _ = onnx_file(replace(model, module=module.Network().eval(), sha256="a user's"), here, half)
        made.append(file.read_bytes())
    assert made[0] == made[1]
    for word in (b"secret_of_the_maker = ", b"network.py", str(tmp_path).encode(), b"site-packages"):
        assert word not in made[0]
