"""The layers that multiply in a network that is no PyTorch code: in a program's calls, or in an ONNX graph."""

import itertools
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engines.macs import Layer

if TYPE_CHECKING:
    from torch import nn

_TRANSPOSED = 6  # of the arguments of aten.convolution: input, weight, bias, stride, padding, dilation, transposed


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every convolution and matrix product that PyTorch computes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Layer] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__.strip("_")
        if name == "convolution":
            self._add(
                name,
                args[0],
                args[1],
                output,
                filter_macs(args[0].shape, args[1].shape, output.shape, args[_TRANSPOSED]),
            )
        elif name in ("mm", "bmm", "addmm", "baddbmm"):
            left, right = args[-2:]
            self._add(name, left, right, output, output.numel() * left.shape[-1])
        return output

    def _add(self, name: str, x: Any, weight: Any, output: Any, macs: int) -> None:
        self.found.append(Layer(f"{name} {len(self.found)}", (x.numel(), weight.numel(), output.numel()), macs))


def called_layers(module: "nn.Module", shape: Sequence[int]) -> list[Layer]:
    """List what `module` multiplies in one pass on the CPU over zeros of `shape`."""
    # Under inference mode a linear layer would reach the recorder whole, under a name for every kind of call.
    recorder = _Recorder()
    with torch.no_grad(), recorder:
        module(torch.zeros(tuple(shape)))
    return recorder.found


def graph_layers(model: Any) -> list[Layer]:
    """List the Conv, ConvTranspose, Gemm and MatMul nodes of an ONNX model with inferred shapes.

    Products of two constants are left out: every runtime computes them beforehand.
    """
    graph = model.graph
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    values = itertools.chain(graph.input, graph.output, graph.value_info)
    shapes = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in values} | constants
    found = []
    for node in graph.node:
        if node.op_type in _MACS and not all(name in constants for name in node.input[:2]):
            x, weight, output = (shapes[name] for name in (*node.input[:2], node.output[0]))
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
