"""What a network multiplies on the way to its outputs: runtimes leave out the rest, such as heads for deep supervision.

Everything that PyTorch computes passes `__torch_dispatch__`, so that modules and programs are counted alike.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engines.layers import Layer, convolution_macs

_TRANSPOSED = 6  # of the arguments of aten.convolution: input, weight, bias, stride, padding, dilation, transposed


class Dataflow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows marks from tensor to tensor through everything that is computed while it is entered.

    Marks lie on storages, so that they pass through views, detached tensors and changes in place too.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._marks: dict[int, set[int]] = {}
        self._kept: list[Any] = []  # storages, as the address of one that is gone may come again

    def mark(self, tensor: Tensor, number: int) -> None:
        """Put a mark on a tensor."""
        self._of(tensor).add(number)

    def marks(self, held: object) -> set[int]:
        """The marks that reached the tensors in `held`."""
        return set().union(*map(self._of, _tensors(held)))

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = operation(*args, **(kwargs or {}))
        read = self.marks((args, kwargs))
        for tensor in _tensors(output):
            self._of(tensor).update(read)
        return output

    def _of(self, tensor: Tensor) -> set[int]:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._marks:
            self._kept.append(storage)
        return self._marks.setdefault(storage._cdata, set())


class Multiplications(Dataflow):  # type: ignore[no-untyped-call]
    """Lists every convolution and matrix product, and marks what comes of each by its number.

    Attributes:
        name: of the layer that is called now; None outside of layers, where `named_only` leaves products out.
    """

    def __init__(self, named_only: bool = False) -> None:
        super().__init__()
        self.name: str | None = None
        self._named_only = named_only
        self._layers: list[Layer] = []

    def reaching_outputs(self, module: nn.Module, shape: Sequence[int], device: str) -> list[Layer]:
        """Call `module` once on zeros of `shape`; list what its outputs come from, in the order of the calls."""
        # Under inference mode a linear layer would arrive whole, under a name for every kind of call.
        with torch.no_grad(), self:
            used = self.marks(module(torch.zeros(tuple(shape), device=device)))
        return [self._layers[number] for number in sorted(used)]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().__torch_dispatch__(operation, types, args, kwargs)
        name = operation.overloadpacket.__name__.strip("_")
        if self._named_only and self.name is None:
            return output
        if name == "convolution":
            x, weight = args[:2]
            macs = convolution_macs(x.shape, weight.shape, output.shape, args[_TRANSPOSED])
        elif name in ("mm", "bmm", "addmm", "baddbmm"):
            x, weight = args[-2:]
            macs = output.numel() * x.shape[-1]
        else:
            return output
        number = len(self._layers)
        self.mark(output, number)
        sizes = (x.numel(), weight.numel(), output.numel())
        self._layers.append(Layer(self.name or f"{name} {number}", sizes, macs))
        return output


def _tensors(held: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(held) if isinstance(leaf, Tensor))
