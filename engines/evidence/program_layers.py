"""The layers that multiply in a network that is no PyTorch code: in a program's calls, or in an ONNX graph."""

import itertools
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from engines.evidence.dataflow import Dataflow
from engines.evidence.mac_counter import Layer

if TYPE_CHECKING:
    from torch import nn

_TRANSPOSED = 6  # of the arguments of aten.convolution: input, weight, bias, stride, padding, dilation, transposed


class _Recorder(Dataflow):  # type: ignore[no-untyped-call]
    """Notes every convolution and matrix product that PyTorch computes, and marks what comes of each by its number."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Layer] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().__torch_dispatch__(operation, types, args, kwargs)
        name = operation.overloadpacket.__name__.strip("_")
        if name == "convolution":
            x, weight = args[:2]
            macs = filter_macs(x.shape, weight.shape, output.shape, args[_TRANSPOSED])
        elif name in ("mm", "bmm", "addmm", "baddbmm"):
            x, weight = args[-2:]
            macs = output.numel() * x.shape[-1]
        else:
            return output
        number = len(self.found)
        self.mark(output, number)
        self.found.append(Layer(f"{name} {number}", (x.numel(), weight.numel(), output.numel()), macs))
        return output


def called_layers(module: "nn.Module", shape: Sequence[int]) -> list[Layer]:
    """List what `module` multiplies on the way to its outputs, in one pass on the CPU over zeros of `shape`."""
    recorder = _Recorder()
    # Under inference mode a linear layer would reach the recorder whole, under a name for every kind of call.
    with torch.no_grad(), recorder:
        outputs = module(torch.zeros(tuple(shape)))
    return [recorder.found[number] for number in sorted(recorder.marks(outputs))]


def graph_layers(model: Any) -> list[Layer]:
    """List the Conv, ConvTranspose, Gemm and MatMul nodes of an ONNX model with inferred shapes.

    Products of two constants are left out: every runtime computes them beforehand. So are those of unknown shape.
    """
    graph = model.graph
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    values = itertools.chain(graph.input, graph.output, graph.value_info)
    shapes = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in values} | constants
    found = []
    for node in graph.node:
        if node.op_type in _MACS and not all(name in constants for name in node.input[:2]):
            x, weight, output = (shapes.get(name, []) for name in (*node.input[:2], node.output[0]))
            if all(shape and all(shape) for shape in (x, weight, output)):
                macs = _MACS[node.op_type](x, weight, output, {one.name: one.i for one in node.attribute})
                found.append(Layer(node.name or node.output[0], (prod(x), prod(weight), prod(output)), macs))
    return found


def filter_macs(x: Sequence[int], weight: Sequence[int], output: Sequence[int], transposed: bool) -> int:
    """Multiply-accumulates of a convolution, from the shapes of its tensors.

    Each element of the output takes a filter's size of them, in a transposed convolution each element of the input.
    Weights are ``[out, in / groups, ...]``; transposed ``[in, out / groups, ...]``.
    """
    return prod(x if transposed else output) * prod(weight) // weight[0]


_MACS: Mapping[str, Any] = {
    "Conv": lambda x, weight, output, _: filter_macs(x, weight, output, False),
    "ConvTranspose": lambda x, weight, output, _: filter_macs(x, weight, output, True),
    "Gemm": lambda a, _b, output, told: prod(output) * a[0 if told.get("transA") else 1],
    "MatMul": lambda a, _b, output, _: prod(output) * a[-1],
}
