"""The layers that multiply in an ONNX graph."""

import itertools
from collections.abc import Mapping
from math import prod
from typing import Any

from engines.layers import Layer, convolution_macs

_MACS: Mapping[str, Any] = {
    "Conv": lambda x, weight, output, _: convolution_macs(x, weight, output, transposed=False),
    "ConvTranspose": lambda x, weight, output, _: convolution_macs(x, weight, output, transposed=True),
    "Gemm": lambda a, _b, output, attributes: prod(output) * a[0 if attributes.get("transA") else 1],
    "MatMul": lambda a, _b, output, _: prod(output) * a[-1],
}


def graph_layers(model: Any) -> list[Layer]:
    """List the Conv, ConvTranspose, Gemm and MatMul nodes of an ONNX model with inferred shapes.

    Products of two constants are left out: every runtime computes them beforehand. So are those of unknown shape.
    """
    graph = model.graph
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    values = itertools.chain(graph.input, graph.output, graph.value_info)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values} | constants
    layers = []
    for node in graph.node:
        if node.op_type in _MACS and not all(name in constants for name in node.input[:2]):
            x, weight, output = (shapes.get(name, []) for name in (*node.input[:2], node.output[0]))
            if all(shape and all(shape) for shape in (x, weight, output)):
                attributes = {attribute.name: attribute.i for attribute in node.attribute}
                macs = _MACS[node.op_type](x, weight, output, attributes)
                layers.append(Layer(node.name or node.output[0], (prod(x), prod(weight), prod(output)), macs))
    return layers
