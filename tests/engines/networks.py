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
    before = module.get_submodule(name.replace(".3", ".2"))
    before.register_forward_hook(lambda _module, _inputs, output: output * scale_of(output))
    return replace(model, module=module)


def scale_of(output: Tensor) -> Tensor:
    scale = torch.ones(1, output.shape[1], 1, 1, 1)
    scale[:, 0] = 1000
    return scale


class SegmentsOnly(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        segmentation, _ = self.network(x)
        return segmentation, segmentation.new_zeros(len(segmentation), 0)
