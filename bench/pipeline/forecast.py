"""What a case will take of memory, known from the headers of its images."""

from dataclasses import dataclass

from bench.pipeline.tiles import Shape


@dataclass(frozen=True)
class Forecast:
    """What a case of some shape will take of memory.

    Attributes:
        prepared: its shape when it is brought to the network.
        preparing: bytes at most until then.
        cuts: the axes along which its logits are taken in parts (`bench.pipeline.merge.Receiver`).
        labelling: bytes that labels take beside the sums of logits.
    """

    prepared: Shape
    preparing: int
    cuts: tuple[int, ...]
    labelling: int
