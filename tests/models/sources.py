"""A network that is not known to this project, the real tools that write it to files, and what it says."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.errors import CheckpointError
from models.model import Model
from models.options import ModelOptions
from tests.loading import load

SIDE = 32
TILE = (SIDE, SIDE, SIDE)


class Other(nn.Module):
    """A small network that is not known here; its dict, order of outputs and deep supervision are its own."""

    def __init__(self, head: bool = True, deep: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.up = nn.ConvTranspose3d(4, 2, 2, 2)
        self.last = nn.Conv3d(2, 3, 1)
        self.deep = nn.Conv3d(4, 3, 1) if deep else None
        self.head = nn.Linear(4, 3) if head else None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = torch.relu(self.norm(self.first(x)))
        small = nn.functional.max_pool3d(features, 2)
        outputs: dict[str, Tensor] = {}
        if self.head is not None:
            outputs["cls"] = self.head(features.mean((2, 3, 4)))
        if self.deep is not None:
            outputs["deep"] = self.deep(small)
        outputs["seg"] = self.last(self.up(small))
        return outputs


def as_is(network: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    """What the source module says: segmentation and, if it has one, classification."""
    with torch.inference_mode():
        outputs = network.eval()(image)
    if isinstance(outputs, dict):
        return tuple(outputs[name] for name in ("seg", "cls") if name in outputs)
    return tuple(outputs)


def answers(model: Model, image: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        return tuple(model.module(image))


def refused(path: Path, options: ModelOptions | None = None) -> str:
    """The refusal, less the file's name."""
    with pytest.raises(CheckpointError) as caught:
        load(path, options=options)
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ").replace(str(path), "FILE")


def traced(network: nn.Module, path: Path, image: Tensor) -> None:
    torch.jit.trace(network.eval(), image, strict=False).save(str(path))  # type: ignore[no-untyped-call]


def scripted(network: nn.Module, path: Path, image: Tensor) -> None:
    torch.jit.script(network.eval()).save(str(path))


def frozen(network: nn.Module, path: Path, image: Tensor) -> None:
    script = torch.jit.trace(network.eval(), image, strict=False)  # type: ignore[no-untyped-call]
    torch.jit.freeze(script).save(str(path))


def exported(network: nn.Module, path: Path, image: Tensor) -> None:
    torch.export.save(torch.export.export(network.eval(), (image,)), path)


def dynamo(network: nn.Module, path: Path, image: Tensor, external: bool = False) -> None:
    torch.onnx.export(network.eval(), (image,), path, dynamo=True, external_data=external, verbose=False)


def dynamic(network: nn.Module, path: Path, image: Tensor) -> None:
    sides = {0: torch.export.Dim("b"), **{i: 2 * torch.export.Dim(f"s{i}") for i in (2, 3, 4)}}
    images = image.repeat(2, 1, 1, 1, 1)
    torch.onnx.export(
        network.eval(), (images,), path, dynamo=True, external_data=False, verbose=False, dynamic_shapes=(sides,)
    )


def legacy(network: nn.Module, path: Path, image: Tensor) -> None:
    torch.onnx.export(network.eval(), (image,), path, dynamo=False, opset_version=13)
