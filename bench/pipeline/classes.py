"""Which label a voxel gets out of the logits of all classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Classes:
    """What the classes of a network mean.

    Attributes:
        labels: in the mask, of each class; without `painting` the first is background.
        painting: order in which overlapping regions are painted, later over earlier; None where the likeliest class has
            the voxel.
    """

    labels: tuple[int, ...]
    painting: tuple[int, ...] | None


def choose(logits: Tensor, classes: Classes, out: Tensor) -> Tensor:
    """Write the label of each voxel into `out`, uint8 ``[D, H, W]``, from logits ``[C, D, H, W]``; return it.

    It is that of the likeliest class, of equal ones the first; of overlapping regions that of the last one painted
    whose logit is above 0, which is a probability above a half. Scaling all logits of a voxel by the same positive
    number changes no label.
    """
    if classes.painting is not None:
        return paint(logits, classes.labels, classes.painting, out)
    # torch.argmax over the first axis takes tens of times as long on a CPU; of equal logits both take the first.
    best = logits[0]
    out.fill_(classes.labels[0])
    for label, of_class in zip(classes.labels[1:], logits[1:], strict=True):
        out.masked_fill_(of_class > best, label)
        best = torch.maximum(best, of_class)
    return out


def paint(regions: Tensor, labels: Sequence[int], painting: Iterable[int], out: Tensor) -> Tensor:
    """Write the labels of `regions` ``[C, D, H, W]`` into `out` ``[D, H, W]``, each where it is above 0; return `out`.

    They come in the order `painting`, later over earlier; the rest is background.
    """
    out.zero_()
    for channel in painting:
        out.masked_fill_(regions[channel] > 0, labels[channel])
    return out
