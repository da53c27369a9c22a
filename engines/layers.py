"""A network's layers that multiply, the operations that ran, and the matching of the two. Imports nothing of ours."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

UNKNOWN = "unknown"  # precision of what no runtime reports

# Names of the tensors in every ONNX file that the engines write.
INPUT = "image"
OUTPUTS = ("segmentation", "classification")


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
        """The same layer, counted for one tile, in a pass over `batch` tiles."""
        x, weight, output = self.sizes
        return Layer(self.name, (batch * x, weight, batch * output), batch * self.macs)


def convolution_macs(x: Sequence[int], weight: Sequence[int], output: Sequence[int], transposed: bool) -> int:
    """Multiply-accumulates of a convolution, from the shapes of its tensors.

    Each element of the output takes a filter's size of them, in a transposed convolution each element of the input.
    Weights are ``[out, in / groups, ...]``; transposed ``[in, out / groups, ...]``.
    """
    return prod(x if transposed else output) * prod(weight) // weight[0]


@dataclass(frozen=True)
class Operation:
    """A convolution or matrix product that ran: in which precision, and the shapes of its tensors in any order."""

    name: str
    precision: str
    shapes: Sequence[Sequence[int]]


class Tally:
    """Matches the operations that a runtime reports with a network's layers, and sums their MACs by precision.

    Runtimes permute axes and rename layers, but keep the number of elements: a layer is known by those of its
    input, weight and output. Each layer is matched once.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._left = list(layers)
        self._macs: Counter[str] = Counter()

    def add(self, precision: str, shapes: Sequence[Sequence[int]]) -> bool:
        """Count an operation whose tensors, in any order, have these shapes; False where it is no layer's."""
        sizes = [prod(shape) for shape in shapes]
        needed = min(2, len(sizes))  # where only the weight is reported, it must do
        layer = max(self._left, key=lambda layer: _agreement(layer, sizes), default=None)
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
