"""A network's layers that multiply, the operations that ran, and the matching of the two. Imports nothing of ours."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

UNKNOWN = "unknown"  # precision of what no runtime reports
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}  # by PyTorch's names

# Names of the tensors in every ONNX file that the engines write.
INPUT = "image"
OUTPUTS = ("segmentation", "classification")


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product in one pass of its network: of a layer, or of a function that is called.

    Attributes:
        name: of the layer, e.g. ``enc1.0``; of a function what it does, with a number.
        sizes: number of elements of its input, weight and output.
        macs: multiply-accumulates, the bias left out.
        precision: of its input, as the network itself has it.
        product: it is a matrix product of a function, as in attention, and not of a layer: runtimes rearrange such,
            fuse them, and do not always report them.
        varies: whether its weight comes of the image, as in attention, so that each tile has its own.
    """

    name: str
    sizes: tuple[int, int, int]
    macs: int
    precision: str = "fp32"
    product: bool = False
    varies: bool = False

    def batched(self, batch: int) -> "Layer":
        """The same layer, counted for one tile, in a pass over `batch` tiles."""
        x, weight, output = self.sizes
        sizes = (batch * x, batch * weight if self.varies else weight, batch * output)
        return replace(self, sizes=sizes, macs=batch * self.macs)


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
    input, weight and output. Each layer is matched once. A product of a function that a runtime rearranges matches
    nothing: where all operations without a match ran in one precision, they are taken for such products; where there
    are none, these are left out of the account.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._left = list(layers)
        self._macs: Counter[str] = Counter()
        self._others: set[str] = set()  # precisions of operations that match no layer

    def add(self, precision: str, shapes: Sequence[Sequence[int]]) -> bool:
        """Count an operation whose tensors, in any order, have these shapes; False where it is no layer's."""
        sizes = [prod(shape) for shape in shapes]
        needed = min(2, len(sizes))  # where only the weight is reported, it must do
        layer = max(self._left, key=lambda layer: _agreement(layer, sizes), default=None)
        if layer is None or _agreement(layer, sizes) < needed:
            self._others.add(precision)
            return False
        self._left.remove(layer)
        self._macs[precision] += layer.macs
        return True

    def share(self) -> dict[str, float]:
        """Fraction of all multiply-accumulates by precision, ``unknown`` for layers that no operation matched."""
        macs = Counter(self._macs)
        other = next(iter(self._others)) if len(self._others) == 1 else UNKNOWN
        for layer in self._left:
            if not layer.product:
                macs[UNKNOWN] += layer.macs
            elif self._others:
                macs[other] += layer.macs
        total = sum(macs.values())
        return {name: part / total for name, part in macs.most_common() if part > 0} if total else {}


def _agreement(layer: Layer, sizes: Sequence[int]) -> int:
    return (Counter(layer.sizes) & Counter(sizes)).total()
