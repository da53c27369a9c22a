"""Which installed packages a network's function comes from: by its layers, and by what the user's files import."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from models.load import load_model
from models.options import ModelOptions
from models.user_code.packages import packages_of

NET = """
import json
from torch import nn
from beside import Scaled

def net():
    return nn.Sequential(Scaled(), nn.Conv3d(1, 3, 1))
"""
BESIDE = """
import torch

class Scaled(torch.nn.Module):
    def forward(self, x):
        from factor.of import FACTOR
        return FACTOR * x
"""


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A distribution ``some-factors`` with a package of another name."""
    site = tmp_path / "site-packages"
    files = {
        "factor/__init__.py": "",
        "factor/of.py": "FACTOR = 2\n",
        "some_factors-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: some-factors\nVersion: 1.5\n",
        "some_factors-1.5.dist-info/top_level.txt": "factor\n",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.syspath_prepend(site)
    return site


def test_a_package_that_a_forward_imports_is_part_of_the_network(installed, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "net.py").write_text(NET)
    (project / "beside.py").write_text(BESIDE)
    torch.save({"1.weight": torch.rand(3, 1, 1, 1, 1), "1.bias": torch.rand(3)}, tmp_path / "net.pth")
    options = ModelOptions(arch=f"{project / 'net.py'}:net", tile=(8, 8, 8))
    with load_model(tmp_path / "net.pth", options) as (model, _):
        assert model.packages == ("some-factors",)
    for name in [name for name in sys.modules if name.partition(".")[0] == "factor"]:
        del sys.modules[name]


def test_a_layer_tells_its_package():
    unet = pytest.importorskip("monai.networks.nets").UNet(3, 1, 3, channels=(4, 8), strides=(2,))
    assert packages_of(nn.Sequential(unet)) == ("monai",)


def test_pytorchs_own_layers_need_none():
    assert packages_of(nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU())) == ()
