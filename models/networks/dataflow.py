"""Follows what comes of a tensor through everything that PyTorch computes, of a module or a program alike."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.networks.compiler import compiler_on_demand

IMAGE = -1  # the mark of the network's input
_READING = ("is_nonzero", "item", "allclose")  # under inference mode they arrive whole
_DRAWING = re.compile("rand|dropout|bernoulli|normal|uniform|multinomial|poisson|exponential")
_LEAVING = (Tensor.numpy, Tensor.tolist, Tensor.__array__)  # they hand values to Python, past the dispatcher


class Dataflow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows marks from tensor to tensor through everything that is computed while it is entered.

    Marks lie on storages, so that they pass through views, detached tensors and changes in place too.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._marks: dict[int, set[int]] = {}
        self._kept: list[Any] = []  # of each storage its address, which would come again; its memory is given back

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
            self._kept.append(StorageWeakRef(storage))  # type: ignore[no-untyped-call]
        return self._marks.setdefault(storage._cdata, set())


class Observer(Dataflow):  # type: ignore[no-untyped-call]
    """Watches a forward for what a graph of it would lose.

    Attributes:
        reads_values: Python received values that come of the image, to branch on them or to compute elsewhere.
        draws: names of the operations that drew random numbers.
        types: other floating-point types than float32 that what comes of the image had.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads_values = False
        self.draws: set[str] = set()
        self.types: set[str] = set()

    def call(self, network: Callable[[Tensor], Any], x: Tensor) -> Any:
        """What `network` returns for `x`."""
        with compiler_on_demand(), self, _Leaving(self):
            self.mark(x, IMAGE)
            return network(x)

    def note_read(self, held: object) -> None:
        """Python receives the values of the tensors in `held`."""
        self.reads_values |= IMAGE in self.marks(held)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, tags = operation.overloadpacket.__name__.strip("_"), operation.tags
        if torch.Tag.data_dependent_output in tags or name in _READING:
            self.note_read((args, kwargs))
        idle = name.endswith("dropout") and args[2:3] == (False,)  # not in training: it passes its input on
        if torch.Tag.nondeterministic_seeded in tags and _DRAWING.search(name) and not idle:
            self.draws.add(name)
        output = super().__torch_dispatch__(operation, types, args, kwargs)
        for tensor in _tensors(output):
            if tensor.is_floating_point() and tensor.dtype != torch.float32 and IMAGE in self.marks(tensor):
                self.types.add(str(tensor.dtype).removeprefix("torch."))
        return output


class _Leaving(TorchFunctionMode):
    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _LEAVING:
            self._observer.note_read(args)
        return function(*args, **(kwargs or {}))


def _tensors(held: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(held) if isinstance(leaf, Tensor))
