"""Checkpoint files for the tests, written as people write them."""

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.networks.unet import MultiTaskUNet

METRICS = {"pancreas_dice": 0.91, "lesion_dice": 0.62, "whole_dice": 0.9}


@pytest.fixture
def network() -> MultiTaskUNet:
    """A width-2 reference network, the same in every test."""
    torch.manual_seed(0)
    return MultiTaskUNet(2).eval()


@pytest.fixture
def reference(network: MultiTaskUNet) -> dict[str, Any]:
    """What the reference training script saves, numpy numbers and AdamW state included."""
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return {
        "epoch": 93,
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "metrics": {name: np.float64(value) for name, value in METRICS.items()},
        "cls_f1": np.float64(0.71),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Save an object with torch.save; return the file."""

    def save(held: object, name: str = "model.pth", **options: Any) -> Path:
        torch.save(held, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the code in hostile files would create; it must not be there after the test."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "MARKER"
    assert not (tmp_path / "MARKER").exists()


@pytest.fixture
def repickled() -> Callable[[Path, Callable[[bytes], bytes]], Path]:
    """Rewrite the pickle inside a torch.save file."""

    def rewrite(path: Path, change: Callable[[bytes], bytes]) -> Path:
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in entries.items():
                archive.writestr(name, change(data) if name.endswith("data.pkl") else data)
        return path

    return rewrite


@pytest.fixture
def image() -> torch.Tensor:
    """One tile of noise."""
    return torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that nnU-Net's trainer wrote, in its results folder."""
    from tests.nnunet import train

    return train(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, in which plans, dataset and checkpoint may be changed."""
    folder = shutil.copytree(trained.parent.parent, tmp_path / "results")
    return Path(folder) / "fold_0" / trained.name
