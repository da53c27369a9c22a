"""One segmentation and one class out of the logits of many tiles."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bench.data.blocks import slabs
from bench.pipeline.finite import is_finite, overflow
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import Box, Grid


class Merger:
    """Averages tile logits by weight; the class is the tiles' vote, weighted by the foreground each predicts.

    Attributes:
        boxes: of the tiles that were added.
    """

    def __init__(self, grid: Grid, weights: Tensor, settings: InferenceSettings) -> None:
        """Start empty.

        Args:
            grid: where the tiles lie.
            weights: of a tile's voxels, ``[D, H, W]``, on the device the logits will be on, in the dtype of sums.
            settings: whose `labels`, `painting` and `subtypes` say what the logits mean.
        """
        self.boxes: list[Box] = []
        self._grid = grid
        self._labels = settings.labels
        self._painting = settings.painting
        self._classifies = settings.subtypes > 0
        self._weights = weights
        self._sum: Tensor | None = None
        self._votes: list[Tensor] = []
        self._foreground: list[Tensor] = []

    def aggregate(self, boxes: list[Box], segmentation: Tensor, classification: Tensor) -> None:
        """Add the logits of some tiles: ``[n, C, D, H, W]`` and ``[n, K]``, tile i covering ``boxes[i]``."""
        if self._sum is None:
            self._sum = self._weights.new_zeros((segmentation.shape[1], *self._grid.padded))
        self.boxes += boxes
        for box, logits in zip(boxes, segmentation, strict=True):
            self._add_tile(self._sum[(slice(None), *box)], logits)
        if self._classifies:
            self._foreground.append(foreground_mass(segmentation, self._painting is not None))
            self._votes.append(classification.clone())

    def _add_tile(self, total: Tensor, logits: Tensor) -> None:
        """Add a tile's weighted logits to its part of the sum, in place."""
        total.addcmul_(logits, self._weights)

    @torch.inference_mode()
    def finalize(self) -> Tensor:
        """Weighted mean of the tiles' logits over the volume, ``[C, D, H, W]``.

        The sums are divided where they lie, so nothing can be asked afterwards: take labels before, or in its place.

        Raises:
            NotFiniteError: one of them, or a sum of weights, is NaN or infinite.
        """
        total = self._weights.new_zeros(self._grid.padded)
        for box in self._grid.boxes:
            total[box] += self._weights
        total[total == 0] = 1  # outside every tile, which only `center-patch` leaves
        logits, self._sum = self._accumulated().div_(total), None
        if not (is_finite(total) and is_finite(logits)):
            raise overflow(logits.dtype)
        return logits[(slice(None), *self._grid.interior)]

    def labels(self) -> Tensor:
        """Label of every voxel, uint8 ``[D, H, W]``; background outside every tile.

        It is that of the likeliest class; of overlapping regions that of the last one painted whose logit is above 0,
        which is a probability above a half. The weights' sum is positive and the same for every class of a voxel, so
        dividing by it would change no label.

        Raises:
            NotFiniteError: a sum of logits is NaN or infinite, of which a comparison would make background.
        """
        logits = self._accumulated()[(slice(None), *self._grid.interior)]
        labels = torch.empty(logits.shape[1:], dtype=torch.uint8, device=logits.device)
        on_cpu = logits.device.type == "cpu"  # whose cache holds a slab; elsewhere each would only be launched anew
        for rows in slabs(labels.shape) if on_cpu else [slice(None)]:
            if not is_finite(logits[:, rows]):
                raise overflow(logits.dtype)
            self._choose(logits[:, rows], labels[rows])
        return labels

    def _choose(self, logits: Tensor, labels: Tensor) -> None:
        if self._painting is not None:
            paint(logits, self._labels, self._painting, labels)
            return
        # torch.argmax over the first axis takes tens of times as long on a CPU; of equal logits both take the first.
        best = logits[0]
        labels.fill_(self._labels[0])
        for label, of_class in zip(self._labels[1:], logits[1:], strict=True):
            labels.masked_fill_(of_class > best, label)
            best = torch.maximum(best, of_class)

    def subtype(self) -> int:
        """Class of the case, by `vote`.

        Raises:
            NotFiniteError: as `vote`.
        """
        return vote(torch.cat(self._votes), torch.cat(self._foreground))

    def _accumulated(self) -> Tensor:
        assert self._sum is not None, "no tile was added"
        return self._sum


def paint(regions: Tensor, labels: Sequence[int], painting: Iterable[int], out: Tensor) -> Tensor:
    """Write the labels of `regions` ``[C, D, H, W]`` into `out` ``[D, H, W]``, each where it is above 0; return `out`.

    They come in the order `painting`, later over earlier; the rest is background.
    """
    out.zero_()
    for channel in painting:
        out.masked_fill_(regions[channel] > 0, labels[channel])
    return out


def foreground_lead(segmentation: Tensor, overlapping: bool) -> Tensor:
    """How far the best class leads over background, ``[n, D, H, W]``, from logits ``[n, C, D, H, W]``: above 0 where
    a voxel is foreground.
    """
    return segmentation.amax(1) if overlapping else segmentation[:, 1:].amax(1) - segmentation[:, 0]


def foreground_mass(segmentation: Tensor, overlapping: bool) -> Tensor:
    """Mean probability of anything but background in each tile, ``[n]``, from logits ``[n, C, D, H, W]``.

    Of overlapping regions it is the probability of the likeliest.
    """
    if overlapping:
        return torch.sigmoid(segmentation.amax(1)).mean(dim=(1, 2, 3))
    return 1 - torch.softmax(segmentation, dim=1)[:, 0].mean(dim=(1, 2, 3))


def vote(logits: Tensor, foreground: Tensor) -> int:
    """Class of a case: tile logits averaged by predicted foreground mass; a plain mean where there is none.

    Args:
        logits: of the classification of every tile, ``[n, K]``.
        foreground: mean probability of anything but background in every tile, ``[n]``.

    Raises:
        NotFiniteError: one of them is NaN or infinite, or their sum is.
    """
    if float(foreground.sum()) <= 0:
        foreground = torch.ones_like(foreground)
    votes = (logits * foreground[:, None]).sum(dim=0)
    if not is_finite(votes):
        raise overflow(votes.dtype)
    return int(votes.argmax())
