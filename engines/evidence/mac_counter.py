"""Multiply-accumulates of a network's layers, shared out by the precision in which a runtime tells it ran them."""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from engines.base import Target
    from engines.evidence.dataflow import Dataflow
    from models.model import Model

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Layer:
    """A convolution, transposed convolution or linear layer in one pass of its network.

    Attributes:
        name: of the module, e.g. ``enc1.0``.
        sizes: number of elements of its input, weight and output.
        macs: multiply-accumulates, the bias left out.
    """

    name: str
    sizes: tuple[int, int, int]
    macs: int

    def batched(self, batch: int) -> "Layer":
        """The same layer, told of one tile, in a pass over `batch` tiles."""
        x, weight, output = self.sizes
        return Layer(self.name, (batch * x, weight, batch * output), batch * self.macs)


def layers_for(model: "Model", target: "Target") -> list[Layer]:
    """List the layers of `model` that multiply in a pass of `target`: those that it brings, or else found anew."""
    if target.layers is None:
        return layers_in(model, target.batch, target.tile)
    return [layer.batched(target.batch) for layer in target.layers]


def layers_in(model: "Model", batch: int, tile: Sequence[int]) -> list[Layer]:
    """List the layers of `model` that multiply in a pass over `batch` tiles."""
    shape = (batch, 1, *tile)
    if model.program is None:
        return layers_of(model.module, shape)
    from engines.evidence.program_layers import called_layers, graph_layers
    from engines.onnx.export import INPUT, OUTPUTS
    from models.programs.onnx_graph import Graph, fixed

    if isinstance(model.program, Graph):
        return graph_layers(fixed(model, shape, INPUT, OUTPUTS))
    return called_layers(model.module, shape)


def layers_of(module: "nn.Module", shape: Sequence[int]) -> list[Layer]:
    """List the layers of `module` that multiply and reach its outputs, for an input of `shape`; computes nothing.

    Each element of a convolution's output takes a filter's size of multiply-accumulates; in a transposed
    convolution each element of the input does.
    """
    import torch
    from torch import nn

    from engines.evidence.dataflow import Dataflow

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    found: list[Layer] = []
    flow = Dataflow()
    on_meta = copy.deepcopy(module).to("meta")
    for name, layer in on_meta.named_modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(_recorder(name, found, flow))
    with torch.inference_mode(), flow:
        used = flow.marks(on_meta(torch.empty(tuple(shape), device="meta")))
    return [layer for number, layer in enumerate(found) if number in used]


def _recorder(name: str, found: list[Layer], flow: "Dataflow") -> Any:
    def record(layer: Any, inputs: Any, output: Any) -> None:
        x, weight = inputs[0], layer.weight
        transposed = getattr(layer, "transposed", False)
        # weight: [out, in / groups, ...]; transposed: [in, out / groups, ...]
        macs = (x if transposed else output).numel() * weight.numel() // weight.shape[0]
        flow.mark(output, len(found))
        found.append(Layer(name, (x.numel(), weight.numel(), output.numel()), macs))

    return record


@dataclass(frozen=True)
class Operation:
    """A convolution or matrix product that ran: in which precision, and the shapes of its tensors in any order."""

    name: str
    precision: str
    shapes: Sequence[Sequence[int]]


class Tally:
    """Matches the operations that a runtime tells of with a network's layers, and sums their MACs by precision.

    Runtimes permute axes and rename layers, but keep the number of elements: a layer is known by those of its
    input, weight and output. Each layer is matched once.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._left = list(layers)
        self._macs: Counter[str] = Counter()

    def add(self, precision: str, shapes: Sequence[Sequence[int]]) -> bool:
        """Count an operation whose tensors, in any order, have these shapes; False where it is no layer's."""
        sizes = [prod(shape) for shape in shapes]
        needed = min(2, len(sizes))  # where only the weight is told, it must do
        layer = max(self._left, key=lambda one: _agreement(one, sizes), default=None)
        if layer is None or _agreement(layer, sizes) < needed:
            return False
        self._left.remove(layer)
        self._macs[precision] += layer.macs
        return True

    def share(self) -> dict[str, float]:
        """Fraction of all multiply-accumulates by precision, ``unknown`` for layers that no operation matched."""
        macs = Counter(self._macs)
        macs[UNKNOWN] += sum(layer.macs for layer in self._left)
        total = sum(macs.values())
        return {name: part / total for name, part in macs.most_common() if part > 0} if total else {}


def _agreement(layer: Layer, sizes: Sequence[int]) -> int:
    return (Counter(layer.sizes) & Counter(sizes)).total()
