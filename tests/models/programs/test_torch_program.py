"""TorchScript archives and torch.export packages: never run unless trusted, and then run or replaced."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.networks.unet import BATCH, MultiTaskUNet, Shape
from models.options import ModelOptions
from models.task import PANCREAS
from tests.loading import load
from tests.models.sources import TILE, Other, answers, as_is, exported, frozen, refused, scripted, traced

PROGRAMS = {"traced.pt": traced, "frozen.pt": frozen, "program.pt2": exported}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_not_run_unless_trusted(
    network: MultiTaskUNet, image: Tensor, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / name, tmp_path / "other.pt"
    PROGRAMS[name](network, path, image)
    for module, loader in ((torch.jit, "load"), (torch.export, "load")):
        monkeypatch.setattr(module, loader, lambda *_, **__: pytest.fail("it was loaded"))
    what = {
        True: "is a TorchScript archive, and reading one runs the code in it",
        False: "is a torch.export package (.pt2), and reading one can run code hidden in it (CVE-2026-4538)",
    }[name.endswith(".pt")]
    way_on = "if you trust its source, add --trust FILE; else save the network's state_dict() with torch.save"
    for options in (None, ModelOptions(trust=other)):
        assert refused(path, options) == f"{what}; {way_on}"


@pytest.mark.parametrize("name", ["traced.pt", "program.pt2"])
def test_a_trusted_program_of_known_weights_becomes_that_network(
    network: MultiTaskUNet, image: Tensor, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    PROGRAMS[name](network, path, image)
    model, checkpoint = load(path, options=ModelOptions(trust=path, tile=TILE))
    assert isinstance(model.module, MultiTaskUNet)
    assert (model.program, model.architecture, model.tile) == (None, "multitask-unet", TILE)
    assert all(map(torch.equal, answers(model, image), as_is(network, image)))
    assert model.remarks[-1].endswith(
        "was replaced by multitask-unet of its weights, which answers as it does on a tile of noise, bit for bit"
    )
    assert checkpoint.container == {"t": "torchscript", "p": "torch-export"}[name[0]]


def test_a_program_of_a_batch_norm_network_is_replaced_up_to_rounding(image: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = MultiTaskUNet(shape=Shape(2, 2, BATCH, True))
    network.load_state_dict({
        name: tensor.uniform_(0.5, 2) if name.endswith("running_var") else tensor
        for name, tensor in network.state_dict().items()
    })  # fmt: skip
    traced(network, tmp_path / "batch.pt", image)
    model, _ = load(tmp_path / "batch.pt", options=ModelOptions(trust=tmp_path / "batch.pt", tile=TILE))
    assert isinstance(model.module, MultiTaskUNet)
    assert "up to rounding (relative error " in model.remarks[-1]


@pytest.mark.parametrize(
    ("name", "head"), [*((name, True) for name in [*PROGRAMS, "scripted.pt"]), ("traced.pt", False)]
)
def test_any_other_trusted_program_is_run_itself(image: Tensor, tmp_path: Path, name: str, head: bool) -> None:
    path, network = tmp_path / name, Other(head)
    (PROGRAMS | {"scripted.pt": scripted})[name](network, path, image)
    model, _ = load(path, options=ModelOptions(trust=path, tile=TILE))
    assert all(map(torch.equal, answers(model, image), as_is(network, image)))
    assert model.program is not None
    assert (model.subtypes, model.code != "") == (3 if head else 0, True)
    assert model.width == (0 if name == "frozen.pt" else 4)
    assert model.program.batch == (1 if name == "program.pt2" else None)
    assert " itself is run: " in model.remarks[0]
    if name == "program.pt2":
        assert model.remarks[-2:] == ("it takes tiles of 32 x 32 x 32 only", "it takes batches of 1 only")
        assert refused(path, ModelOptions(trust=path, tile=(64, 64, 64))) == (
            "takes tiles of 32 x 32 x 32 only, and --tile asks for 64 x 64 x 64; leave --tile out, or export it with "
            "dynamic axes"
        )


def test_classes_that_the_task_does_not_name_do_not_hide_the_known_network(
    network: MultiTaskUNet, image: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "script.pt"
    traced(network, path, image)
    options = ModelOptions(trust=path, tile=TILE, task=replace(PANCREAS, classes=()))
    assert isinstance(load(path, options=options)[0].module, MultiTaskUNet)


def test_a_program_that_answers_otherwise_than_its_weights_is_run_itself(
    network: MultiTaskUNet, image: Tensor, tmp_path: Path
) -> None:
    class Doubled(MultiTaskUNet):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            segmentation, classification = super().forward(x)
            return 2 * segmentation, classification

    doubled = Doubled(2)
    doubled.load_state_dict(network.state_dict())
    path = tmp_path / "doubled.pt"
    traced(doubled, path, image)
    model, _ = load(path, options=ModelOptions(trust=path, tile=TILE))
    assert all(map(torch.equal, answers(model, image), as_is(doubled, image)))
    assert model.remarks[0] == (
        "the TorchScript program itself is run: its weights fit multitask-unet, but that answers otherwise "
        "(relative error 0.5)"
    )


def test_programs_that_cannot_be_used(image: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    trusted = ModelOptions(trust=path, tile=TILE)

    class Dropping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout3d(x.repeat(1, 3, 1, 1, 1), 0.5, training=True)

    class Dividing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.repeat(1, 3, 1, 1, 1) / 0.0

    class Labels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.repeat(1, 3, 1, 1, 1).argmax(1, keepdim=True)

    torch.jit.script(Dropping()).save(str(path))
    assert refused(path, trusted).startswith("gives another answer each time: it was exported in training mode")
    traced(Dividing(), path, image)
    assert refused(path, trusted).startswith("gives NaN or infinity on a tile of noise of 32 x 32 x 32")
    traced(Labels(), path, image)
    assert refused(path, trusted) == (
        "its forward returns no float [1, classes, 32, 32, 32] tensor but [1, 1, 32, 32, 32] of int64; leave the "
        "argmax at its end out: logits are needed"
    )
    traced(nn.Conv3d(1, 3, 2, 2), path, image)
    assert refused(path, trusted).endswith("that returns logits, those of the segmentation of the size of its tile")
    traced(nn.Conv3d(1, 5, 1), path, image)
    assert "its network takes 1 channel and gives 5 classes, and nothing says what they are" in refused(path, trusted)
    traced(nn.Conv3d(2, 3, 1), path, image.repeat(1, 2, 1, 1, 1))
    assert "its network takes 2 channels and gives 3 classes, and nothing says what they are" in refused(path, trusted)
    assert refused(path, replace(trusted, task=PANCREAS)).startswith(
        "its network takes 2 channels, and the task pancreas has 1 (CT); name the task that it was trained for"
    )
    frozen(nn.Conv3d(2, 3, 1), path, image.repeat(1, 2, 1, 1, 1))  # which names no weight
    assert refused(path, trusted).endswith("with --tile X,Y,Z, or its channels with --task FILE.toml")
    two = replace(PANCREAS, channels=("CT", "PET"), classes=())
    assert load(path, options=replace(trusted, task=two))[0].channels == 2
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if "/code/" not in name}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    assert refused(path, trusted).startswith(f"could not be loaded with torch {torch.__version__} (")
