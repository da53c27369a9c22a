"""What a network multiplies on the way to its outputs: runtimes leave out the rest, such as heads for deep supervision.

Everything that PyTorch computes passes `__torch_dispatch__`, so that modules, functions and programs are counted alike.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from engines.layers import PRECISIONS, UNKNOWN, Layer, convolution_macs
from models.networks.compiler import compiler_on_demand
from models.networks.dataflow import IMAGE, Dataflow

_TRANSPOSED = 6  # of the arguments of aten.convolution: input, weight, bias, stride, padding, dilation, transposed
_CONVOLUTION = "convolution"
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
_ATTENTION = "scaled_dot_product_flash_attention_for_cpu"  # elsewhere it comes as its two products


class Multiplications(Dataflow):  # type: ignore[no-untyped-call]
    """Lists every convolution and matrix product, and marks what comes of each by its number.

    Attributes:
        name: of the layer that is called now; None outside of layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name: str | None = None
        self._layers: list[Layer] = []

    def reaching_outputs(self, module: nn.Module, x: Tensor) -> list[Layer]:
        """Call `module` once on `x`; list what its outputs come from, in the order of the calls."""
        fast_path = torch.backends.mha.get_fastpath_enabled()  # of attention: one operation that hides its products
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            # Under inference mode a linear layer would arrive whole, under a name for every kind of call.
            with compiler_on_demand(), torch.no_grad(), self:
                self.mark(x, IMAGE)
                used = self.marks(module(x)) - {IMAGE}
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
        return [self._layers[number] for number in sorted(used)]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().__torch_dispatch__(operation, types, args, kwargs)
        name = operation.overloadpacket.__name__.strip("_")
        if name == _CONVOLUTION:
            x, weight = args[:2]
            macs = convolution_macs(x.shape, weight.shape, output.shape, args[_TRANSPOSED])
            self._add(name, x, weight, output, output.numel(), macs)
        elif name in _PRODUCTS:
            x, weight = args[-2:]
            self._add(name, x, weight, output, output.numel(), output.numel() * x.shape[-1])
        elif name == _ATTENTION:
            query, key, value = args[:3]  # [..., L, E], [..., S, E] and [..., S, V]
            scores = prod(query.shape[:-1]) * key.shape[-2]
            self._add("attention", query, key, output[0], scores, scores * query.shape[-1])
            self._add("attention", output[0], value, output[0], scores, scores * value.shape[-1])
        return output

    def _add(self, kind: str, x: Tensor, weight: Tensor, output: Tensor, result: int, macs: int) -> None:
        """Note a product of `x` and `weight` with `result` elements, from which `output` comes."""
        number = len(self._layers)
        self.mark(output, number)
        sizes = (x.numel(), weight.numel(), result)
        product, varies = kind != _CONVOLUTION and self.name is None, IMAGE in self.marks(weight)
        precision = PRECISIONS.get(str(x.dtype).removeprefix("torch."), UNKNOWN)
        self._layers.append(Layer(self.name or f"{kind} {number}", sizes, macs, precision, product, varies))
