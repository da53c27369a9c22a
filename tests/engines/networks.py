"""Networks that tests of several engines use."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.model import Model


def with_hostile_layer(model: Model, name: str) -> Model:
    """The same function in FP32, but one channel that `name` reads is a thousand times larger than the others."""
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        layer = module.get_submodule(name)
        layer.weight[:, 0] /= 1000
    before = name.replace(".3", ".2")
    module.set_submodule(before, Scaled(module.get_submodule(before)))
    return replace(model, module=module)


class Scaled(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x)
        scale = torch.ones(1, output.shape[1], 1, 1, 1, device=x.device)
        scale[:, 0] = 1000
        return output * scale


class SegmentsOnly(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        segmentation, _ = self.network(x)
        return segmentation, segmentation.new_zeros(len(segmentation), 0)
