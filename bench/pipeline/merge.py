"""One segmentation and one class out of the logits of many tiles."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from bench.data.blocks import slabs
from bench.machine.threads import all_threads
from bench.pipeline.finite import is_finite, overflow
from bench.pipeline.label_map import choose
from bench.pipeline.settings import CaseClass, InferenceSettings
from bench.pipeline.tiles import Box, Grid, Shape, triple

WHOLE_BYTES = 2**30  # of sums of logits that may be kept of a whole volume


class Receiver(Protocol):
    """Takes the logits of a volume in parts, as soon as their tiles are done.

    Attributes:
        cuts: the axes along which parts may end within the volume; along the others they reach from border to border.
    """

    cuts: tuple[int, ...]

    def receive(self, box: Box, logits: Tensor) -> None:
        """Take the merged logits ``[C, d, h, w]`` of a box of the volume, each voxel's by a positive factor of its own.

        Boxes do not overlap. Where they are cut along the first axis alone, they come in its order.
        """
        ...


class Merger:
    """Averages tile logits by weight; the class is the tiles' vote, weighted by the foreground each predicts.

    Without a receiver the sums of the whole volume are kept until they are asked for. With one, they are kept of those
    parts that tiles have begun and not finished.

    Attributes:
        boxes: of the tiles that were added.
        receiver: of the logits; None where they are kept.
    """

    def __init__(
        self, grid: Grid, weights: Tensor, settings: InferenceSettings, receiver: Receiver | None = None
    ) -> None:
        """Start empty.

        Args:
            grid: where the tiles lie; for a receiver all of them are added, in this order.
            weights: of a tile's voxels, ``[D, H, W]``, on the device the logits will be on, in the dtype of sums.
            settings: whose `labels`, `painting` and `subtypes` say what the logits mean.
            receiver: of the logits, if anything takes them.
        """
        self.boxes: list[Box] = []
        self._grid = grid
        self._classes = settings.classes
        self._classifies = settings.subtypes > 0
        self._networks = settings.merged_apart
        self._weights = weights
        self.receiver = receiver
        self._parts = parts_of(grid, receiver.cuts if receiver else ())
        self._reached: dict[Shape, list[Part]] = {start: [] for start in grid.starts}  # by a tile
        for part in self._parts:
            for tile in part.tiles:
                self._reached[grid.starts[tile]].append(part)
        self._votes: list[Tensor] = []
        self._foreground: list[Tensor] = []

    def aggregate(self, boxes: list[Box], segmentation: Tensor, classification: Tensor) -> None:
        """Add the logits of some tiles: ``[n, C, D, H, W]`` and ``[n, K]``, tile i covering ``boxes[i]``.

        Of networks that are merged apart (`InferenceSettings.merged_apart`) C holds the classes of each, in turn.

        Raises:
            NotFiniteError: a part that is finished has a sum that is NaN or infinite.
        """
        self.boxes += boxes
        for box, logits in zip(boxes, segmentation, strict=True):
            self._add(box, logits)
        if self._classifies:
            if self._networks > 1:
                n, _, *sides = segmentation.shape
                segmentation = segmentation.reshape(n, self._networks, -1, *sides).mean(1)
            self._foreground.append(foreground_mass(segmentation, self._classes.painting is not None))
            self._votes.append(classification.clone())

    def _add(self, box: Box, logits: Tensor) -> None:
        for part in self._reached[triple(side.start for side in box)]:
            common = _common(box, part.box)
            assert common is not None
            if part.sum is None:
                part.sum = self._weights.new_zeros((len(logits), *_sides(part.box)))
            of_tile = _within(common, box)
            self._add_tile(part.sum[(slice(None), *_within(common, part.box))], logits[(slice(None), *of_tile)],
                           self._weights[of_tile])  # fmt: skip
            part.added += 1
            if self.receiver is not None and part.added == len(part.tiles):
                self._finish(part, self.receiver)

    def _add_tile(self, total: Tensor, logits: Tensor, weights: Tensor) -> None:
        """Add a tile's weighted logits to its part of the sum, in place."""
        total.addcmul_(logits, weights)

    def _finish(self, part: "Part", receiver: Receiver) -> None:
        logits, box = self._finished(part), _common(part.box, self._grid.interior)
        part.sum = None
        if box is not None:  # else all of it is padding
            with all_threads():  # it may resample
                receiver.receive(_within(box, self._grid.interior), logits[(slice(None), *_within(box, part.box))])

    def _finished(self, part: "Part") -> Tensor:
        """What the receiver gets of a part: sums, as the weights' sum, the same for every class, changes no label."""
        logits = part.accumulated()
        if not is_finite(logits):
            raise overflow(logits.dtype)
        return logits

    @torch.inference_mode()
    def _mean(self, part: "Part") -> Tensor:
        """Weighted mean of the tiles' logits over a part, ``[C, d, h, w]``; its sums are divided where they lie."""
        total = self._weights.new_zeros(_sides(part.box))
        boxes = self._grid.boxes
        for box in (boxes[tile] for tile in part.tiles):
            common = _common(box, part.box)
            assert common is not None
            total[_within(common, part.box)] += self._weights[_within(common, box)]
        total[total == 0] = 1  # outside every tile, which only `center-patch` leaves
        logits, part.sum = part.accumulated().div_(total), None
        if not (is_finite(total) and is_finite(logits)):
            raise overflow(logits.dtype)
        return logits

    def finalize(self) -> Tensor:
        """Weighted mean of the tiles' logits over the volume, ``[C, D, H, W]``, where nothing receives it.

        The sums are divided where they lie, so nothing can be asked afterwards: take labels before, or in its place.

        Raises:
            NotFiniteError: one of them, or a sum of weights, is NaN or infinite.
        """
        return self._mean(self._whole())[(slice(None), *self._grid.interior)]

    def labels(self) -> Tensor:
        """Label of every voxel, uint8 ``[D, H, W]``, where nothing receives the logits; background outside every tile.

        The weights' sum is positive and the same for every class of a voxel, so dividing by it would change no label.

        Raises:
            NotFiniteError: a sum of logits is NaN or infinite, of which a comparison would make background.
        """
        logits = self._whole().accumulated()[(slice(None), *self._grid.interior)]
        labels = torch.empty(logits.shape[1:], dtype=torch.uint8, device=logits.device)
        on_cpu = logits.device.type == "cpu"  # whose cache holds a slab; elsewhere each would only be launched anew
        for rows in slabs(labels.shape) if on_cpu else [slice(None)]:
            if not is_finite(logits[:, rows]):
                raise overflow(logits.dtype)
            choose(logits[:, rows], self._classes, labels[rows])
        return labels

    def case_class(self, logits: Tensor | None = None) -> CaseClass:
        """Class of the case, as by `vote`; of `logits` ``[n, K]`` of the tiles, where others are given than were added.

        Raises:
            NotFiniteError: as `vote`.
        """
        return classify(torch.cat(self._votes) if logits is None else logits, torch.cat(self._foreground))

    def _whole(self) -> "Part":
        assert self.receiver is None, "the logits have gone to their receiver"
        (part,) = self._parts
        return part


@dataclass
class Part:
    """A box of the padded volume, and the sums of its logits, where they are begun and not given away.

    Attributes:
        tiles: of the grid, by number, that reach into it; `added`: how many of them are in the sums.
    """

    box: Box
    tiles: list[int]
    sum: Tensor | None = None
    added: int = 0

    def accumulated(self) -> Tensor:
        assert self.sum is not None, "no tile was added"
        return self.sum


def most_held(grid: Grid, cuts: tuple[int, ...]) -> int:
    """Voxels of the parts that are begun and not finished, at most, while tiles are added in the grid's order."""
    change = [0] * (len(grid.starts) + 1)
    for part in parts_of(grid, cuts):
        if part.tiles:
            change[part.tiles[0]] += math.prod(_sides(part.box))
            change[part.tiles[-1] + 1] -= math.prod(_sides(part.box))
    return max(itertools.accumulate(change))


def parts_of(grid: Grid, cuts: tuple[int, ...]) -> list[Part]:
    """The padded volume, cut along the axes `cuts` where tiles start, and along the first where they end too.

    A part is done when the last tile that reaches into it is. Along the first axis most of the volume waits between two
    rows of tiles, so that what no tile has reached must not be part of it.
    """
    per_axis = []
    for axis, length in enumerate(grid.padded):
        starts = {start[axis] for start in grid.starts}
        ends = {start + grid.tile[axis] for start in starts} if axis == 0 else set()
        edges = sorted({0, length, *starts, *ends}) if axis in cuts else [0, length]
        per_axis.append([slice(start, stop) for start, stop in pairwise(edges)])
    # A tile reaches into the product of the intervals that it reaches into along each axis: few of many parts.
    along = [
        {start: [at for at, side in enumerate(sides) if side.start < start + tile and start < side.stop]
         for start in {start[axis] for start in grid.starts}}
        for axis, (sides, tile) in enumerate(zip(per_axis, grid.tile, strict=True))
    ]  # fmt: skip
    parts = {at: Part(box, []) for at, box in _numbered(per_axis)}
    for number, start in enumerate(grid.starts):
        for at in itertools.product(*(along[axis][start[axis]] for axis in range(3))):
            parts[at].tiles.append(number)
    return list(parts.values())


def _numbered(per_axis: list[list[slice]]) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Each product of intervals, with their numbers."""
    for at in itertools.product(*map(range, map(len, per_axis))):
        x, y, z = (sides[number] for sides, number in zip(per_axis, at, strict=True))
        yield at, (x, y, z)


def _common(box: Box, other: Box) -> Box | None:
    x, y, z = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
    return (x, y, z) if x.start < x.stop and y.start < y.stop and z.start < z.stop else None


def _within(box: Box, outer: Box) -> Box:
    """`box` as counted from the first voxel of `outer`."""
    x, y, z = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))
    return x, y, z


def _sides(box: Box) -> Shape:
    return triple(side.stop - side.start for side in box)


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
    votes, _ = _weighted(logits, foreground)
    return int(votes.argmax())


def classify(logits: Tensor, foreground: Tensor) -> CaseClass:
    """The class of a case by `vote`, with the softmax of the averaged logits.

    Raises:
        NotFiniteError: as `vote`.
    """
    votes, mass = _weighted(logits, foreground)
    votes = votes.double().cpu()  # once, since what is asked of a device is waited for
    return CaseClass(int(votes.argmax()), tuple(torch.softmax(votes / mass, 0).tolist()))


def _weighted(logits: Tensor, foreground: Tensor) -> tuple[Tensor, float]:
    """The sum of the tiles' logits by their foreground mass, ``[K]``, and that mass, which is above 0."""
    mass = float(foreground.sum())
    if mass <= 0:
        foreground, mass = torch.ones_like(foreground), float(len(foreground))
    votes = (logits * foreground[:, None]).sum(dim=0)
    if not is_finite(votes):
        raise overflow(votes.dtype)
    return votes, mass
