"""A small network and targets for the engines."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from engines.base import Calibration, Target
from models.model import Model, weights_sha256
from models.networks.unet import MultiTaskUNet, Shape

SIDE = 32


@pytest.fixture(scope="package")
def model() -> Model:
    """The reference network at width 4 and two poolings, whose layers compilers are done with soon; random weights."""
    torch.manual_seed(0)
    network = MultiTaskUNet(shape=Shape(4, poolings=2)).eval()
    return Model(
        module=network,
        architecture="multitask-unet",
        width=4,
        tile=(SIDE,) * 3,
        window=(-100.0, 240.0),
        sha256=weights_sha256(network),
    )


@pytest.fixture(scope="package")
def tiles() -> Callable[[int, int], Tensor]:
    """Make smooth tiles with a little noise, float32 ``[n, 1, 32, 32, 32]``, from a seed."""

    def make(n: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(n, 1, 4, 4, 4, generator=generator)
        smooth = interpolate(coarse, size=(SIDE,) * 3, mode="trilinear")
        return smooth + 0.02 * torch.randn(smooth.shape, generator=generator)

    return make


@pytest.fixture(scope="package")
def calibration(tiles: Callable[[int, int], Tensor]) -> Calibration:
    return Calibration(lambda: tiles(5, 1), "calibration-1")


@pytest.fixture(scope="package")
def target(calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Target]:
    """Make a target with an empty cache, or with the one that is given."""

    def make(device: str = "cpu", batch: int = 1, cache: Path | None = None, calibrated: bool = True) -> Target:
        folder = cache or tmp_path_factory.mktemp("cache")
        return Target(device, (SIDE,) * 3, batch, 2, folder, calibration if calibrated else None)

    return make
