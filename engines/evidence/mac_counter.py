"""Multiply-accumulates of a network, layer by layer: what every share in the evidence is a share of.

PyTorch's own counter (`torch.utils.flop_counter`) does not serve: it adds the calls of a module up, so that the sizes
by which a runtime's operations are recognised are gone, and it counts heads that reach no output, which no runtime
computes. The tests compare the sums with it.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from engines.base import Target
from engines.layers import INPUT, OUTPUTS, Layer
from engines.placement import copied

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.model import Model


def layers_for(model: "Model", target: Target) -> list[Layer]:
    """List the layers of `model` that multiply in a pass of `target`: those that it brings, or else counted anew."""
    if target.layers is None:
        return layers_in(model, target.batch, target.tile)
    return [layer.batched(target.batch) for layer in target.layers]


def own_types(model: "Model", target: Target) -> Sequence[Layer]:
    """The layers of `model` for `evidence_mismatch`: those that `target` brings, or else counted anew.

    Counted before an engine moves the network, and only where its forward computes in other types than float32.
    """
    if target.layers is not None:
        return target.layers
    return layers_for(model, target) if model.mixed else ()


def layers_in(model: "Model", batch: int, tile: Sequence[int]) -> list[Layer]:
    """List the layers of `model` that multiply in a pass over `batch` tiles; none where they cannot be counted."""
    shape = (batch, model.channels, *tile)
    if model.program is None:
        return layers_of(model.module, shape, on_meta=not model.mixed)  # where autocast would be another
    from engines.evidence.onnx_layers import graph_layers
    from models.programs.onnx_graph import Graph, with_fixed_shapes

    if isinstance(model.program, Graph):
        return graph_layers(with_fixed_shapes(model, shape, INPUT, OUTPUTS))
    return called_layers(model.module, shape)


def layers_of(module: "nn.Module", shape: Sequence[int], on_meta: bool = True) -> list[Layer]:
    """List the convolutions and matrix products of `module` that reach its outputs, for an input of `shape`.

    A copy on the meta device computes nothing. Where there is none, or the forward needs values, tensors that PyTorch
    does not move or hooks, it is the network itself, in one pass on the CPU. None where it does not run while it is
    watched.
    """
    with suppress(Exception):  # of code that is not ours anything can come
        if on_meta:
            return _counted(copied(module).to("meta"), shape, "meta")
    with suppress(Exception):
        return _counted(module, shape, "cpu")
    return []


def called_layers(module: "nn.Module", shape: Sequence[int]) -> list[Layer]:
    """List what a program multiplies on the way to its outputs, in one pass on the CPU over noise of `shape`."""
    from engines.evidence.dataflow import Multiplications

    return Multiplications().reaching_outputs(module, _noise(shape, "cpu"))


def _counted(module: "nn.Module", shape: Sequence[int], device: str) -> list[Layer]:
    from torch import nn

    from engines.evidence.dataflow import Multiplications

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    counter = Multiplications()

    def name_as(name: str | None) -> Any:
        def hook(*_: Any) -> None:
            counter.name = name

        return hook

    with ExitStack() as hooks:
        for name, layer in module.named_modules():
            if isinstance(layer, kinds):
                hooks.callback(layer.register_forward_pre_hook(name_as(name)).remove)
                hooks.callback(layer.register_forward_hook(name_as(None)).remove)
        return counter.reaching_outputs(module, _noise(shape, device))


def _noise(shape: Sequence[int], device: str) -> "Tensor":
    """Intensities as preprocessing gives them: a forward may skip an empty tile."""
    import torch

    generator = torch.Generator(device).manual_seed(0) if device != "meta" else None
    return torch.rand(tuple(shape), generator=generator, device=device)
