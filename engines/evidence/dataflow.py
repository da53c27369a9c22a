"""What of a network its outputs come from: every runtime leaves out the rest, such as heads for deep supervision."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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


def _tensors(held: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(held) if isinstance(leaf, Tensor))
