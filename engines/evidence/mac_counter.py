"""Multiply-accumulates of a network, layer by layer: what every share in the evidence is a share of.

PyTorch's own counter (`torch.utils.flop_counter`) does not serve: it adds the calls of a module up, so that the sizes
by which a runtime's operations are recognised are gone, and it counts heads that reach no output, which no runtime
computes. The tests compare the sums with it.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.base import Target
from engines.layers import INPUT, OUTPUTS, Layer

if TYPE_CHECKING:
    from torch import nn

    from models.model import Model


def layers_for(model: "Model", target: Target) -> list[Layer]:
    """List the layers of `model` that multiply in a pass of `target`: those that it brings, or else counted anew."""
    if target.layers is None:
        return layers_in(model, target.batch, target.tile)
    return [layer.batched(target.batch) for layer in target.layers]


def layers_in(model: "Model", batch: int, tile: Sequence[int]) -> list[Layer]:
    """List the layers of `model` that multiply in a pass over `batch` tiles."""
    shape = (batch, 1, *tile)
    if model.program is None:
        return layers_of(model.module, shape)
    from engines.evidence.onnx_layers import graph_layers
    from models.programs.onnx_graph import Graph, with_fixed_shapes

    if isinstance(model.program, Graph):
        return graph_layers(with_fixed_shapes(model, shape, INPUT, OUTPUTS))
    return called_layers(model.module, shape)


def layers_of(module: "nn.Module", shape: Sequence[int]) -> list[Layer]:
    """List the convolutions and linear layers of `module` that reach its outputs, for an input of `shape`.

    It runs on the meta device, which computes nothing.
    """
    from torch import nn

    from engines.evidence.dataflow import Multiplications

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    network, counter = copy.deepcopy(module).to("meta"), Multiplications(named_only=True)

    def name_as(name: str | None) -> Any:
        def hook(*_: Any) -> None:
            counter.name = name

        return hook

    for name, layer in network.named_modules():
        if isinstance(layer, kinds):
            layer.register_forward_pre_hook(name_as(name))
            layer.register_forward_hook(name_as(None))
    return counter.reaching_outputs(network, shape, "meta")


def called_layers(module: "nn.Module", shape: Sequence[int]) -> list[Layer]:
    """List what a program multiplies on the way to its outputs, in one pass on the CPU over zeros of `shape`."""
    from engines.evidence.dataflow import Multiplications

    return Multiplications().reaching_outputs(module, shape, "cpu")
