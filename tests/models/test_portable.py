"""Networks of every kind, written without code and read back as the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.load import load_model
from models.model import Model
from models.options import ModelOptions
from models.portable import MadeByCodeError, portable_options, write_portable
from models.task import Structure, Task
from tests.bundles import BUNDLES
from tests.bundles import write as write_bundle
from tests.loading import load

TWO, WHOLE = {"background": 0, "spleen": 1}, {"spleen": Structure(labels=(1,))}
SPLEEN = Task(
    name="spleen",
    channels=("CT",),
    labels={"background": 0, "spleen": 1, "cyst": 2},
    structures={"spleen": Structure(labels=(1, 2))},
    classes=("a", "b", "c"),
)


def written(path: Path, folder: Path, options: ModelOptions | None = None, widen_to: int | None = None) -> Model:
    """The network in `path`, written to `folder` and read from there, which must be the same."""
    folder.mkdir()
    with load_model(path, options, widen_to) as (before, checkpoint):
        file = write_portable(checkpoint, before, options or ModelOptions(), folder, widened=widen_to is not None)
        said = portable_options(checkpoint, before, options or ModelOptions())
    assert {each.suffix for each in folder.rglob("*") if each.is_file()} <= {".safetensors", ".json", ".yaml", ".onnx"}
    after, _ = load(file, said)
    assert (after.sha256, after.code, after.architecture) == (before.sha256, before.code, before.architecture)
    assert (after.tile, after.window, after.labels, after.painting) == (
        before.tile, before.window, before.labels, before.painting
    )  # fmt: skip
    assert (after.plans, after.bundle, after.subtypes) == (before.plans, before.bundle, before.subtypes)
    x = torch.rand(1, before.channels, *before.tile, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for ours, theirs in zip(after.module(x), before.module(x), strict=True):
            assert torch.equal(ours, theirs)
    return after


def test_the_reference_network(reference, saved, tmp_path):
    written(saved(reference), tmp_path / "packed", ModelOptions(tile=(16, 32, 32), window=(-100.0, 200.0)))


def test_a_widened_one(reference, saved, tmp_path):
    written(saved(reference), tmp_path / "packed", ModelOptions(tile=(32, 32, 32)), widen_to=4)


def test_weights_in_half_precision_and_two_names_of_one_weight(network, saved, tmp_path):
    state = {name: weight.half() for name, weight in network.state_dict().items()}
    written(saved(state), tmp_path / "packed", ModelOptions(tile=(32, 32, 32)))


def test_a_task_of_the_users(reference, saved, tmp_path):
    after = written(saved(reference), tmp_path / "packed", ModelOptions(tile=(32, 32, 32), task=SPLEEN))
    assert after.task.labels == SPLEEN.labels
    assert list(after.task.structures) == ["spleen"]


@pytest.mark.parametrize("name", [*BUNDLES])
def test_a_bundle(name, tmp_path):
    pytest.importorskip("monai", reason="monai is not installed")
    bundle = write_bundle(tmp_path / "bundle", *BUNDLES[name]())
    if name == "pancreas_ct_dints":  # its architecture lies in a file of arrays, which is read without running it
        with load_model(bundle) as (model, checkpoint):
            (tmp_path / "packed").mkdir()
            file = write_portable(checkpoint, model, ModelOptions(), tmp_path / "packed")
            assert load(file)[0].code == model.code
    else:
        written(bundle, tmp_path / "packed")


@pytest.mark.parametrize("metadata", ["yaml", None])
def test_a_bundle_without_a_metadata_json(metadata, tmp_path):
    pytest.importorskip("monai", reason="monai is not installed")
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    bundle = write_bundle(tmp_path / "bundle", *BUNDLES["spleen_ct"]())
    file = bundle / "configs" / "metadata.json"
    if metadata is not None:
        file.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(file.read_text())))
    file.unlink()
    named = None if metadata else ModelOptions(task=replace(SPLEEN, labels=TWO, structures=WHOLE, classes=()))
    written(bundle, tmp_path / "packed", named)


class TestNnUNet:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

    @pytest.mark.parametrize("name", ["Pancreas", "BrainRegions"])
    def test_a_training(self, name, tmp_path):
        from tests.nnunet import DATASETS, planned, train

        path = train(tmp_path, planned(DATASETS[name]), DATASETS[name])
        after = written(path, tmp_path / "packed")
        assert list(json.loads((tmp_path / "packed" / "plans.json").read_text())["configurations"]) == ["3d_fullres"]
        assert after.plans is not None

    def test_a_fork_with_a_head(self, tmp_path):
        from tests.models.nnunet.test_head import Fork, Normed
        from tests.nnunet import train

        after = written(train(tmp_path, wrap=lambda network: Fork(network, Normed())), tmp_path / "packed")
        assert after.subtypes == 3


def test_an_onnx_graph_is_copied(tmp_path):
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(x)

    path = tmp_path / "network.onnx"
    torch.onnx.export(Network().eval(), (torch.rand(1, 1, 16, 16, 16),), path, dynamo=True, verbose=False)
    written(path, tmp_path / "packed")


CODE = """
import torch

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x)
"""


def test_code_is_not_written(saved, tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    weights = saved(nn.ModuleDict({"conv": nn.Conv3d(1, 3, 3, padding=1)}).state_dict())
    options = ModelOptions(arch=f"{tmp_path / 'mine.py'}:Network", tile=(16, 16, 16))
    with load_model(weights, options) as (model, checkpoint), pytest.raises(MadeByCodeError):
        write_portable(checkpoint, model, options, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
