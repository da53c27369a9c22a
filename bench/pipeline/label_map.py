"""The labels of a volume out of its logits, as these come: at once, or resampled onto another grid.

Of many classes the logits of all voxels do not fit into memory, and most of them decide nothing. So logits are taken in
parts as soon as their tiles are done, and where they are resampled, only those are that can win.

Interpolated logits are means of neighbours. Between the corners of a block no class therefore gets above its largest
corner or below its smallest, and a class whose largest corner is below another's smallest cannot win there: the bound
of branch and bound (Land & Doig, Econometrica 28(3), 1960). It holds for logits that are rounded too, as rounding keeps
their order. Most blocks lie inside one structure, or far from all, and one class is left.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.data.blocks import slabs
from bench.pipeline.resampling import AxisMap
from bench.pipeline.settings import Classes
from bench.pipeline.tiles import Box

SIDE = 8  # voxels between the corners of a block
_TOGETHER = 2**20  # logits that are interpolated at a time, so that they stay in the cache


class Labels:
    """Labels of logits on the grid that they are on.

    Attributes:
        out: the labels, uint8 ``[D, H, W]``.
    """

    cuts: tuple[int, ...] = (0, 1, 2)

    def __init__(self, classes: Classes, out: Tensor) -> None:
        """Write into `out`, uint8 ``[D, H, W]``."""
        self._classes = classes
        self.out = out

    def receive(self, box: Box, logits: Tensor) -> None:
        labels = torch.empty(logits.shape[1:], dtype=torch.uint8, device=logits.device)
        for rows in slabs(labels.shape) if logits.device.type == "cpu" else [slice(None)]:
            choose(logits[:, rows], self._classes, labels[rows])
        self.out[box] = labels.to(self.out.device)


class ResampledLabels:
    """Labels of resampled logits, which are means of at most two neighbours along each axis.

    Attributes:
        out: the labels, uint8, of the new shape.
    """

    cuts: tuple[int, ...] = (0,)

    def __init__(self, maps: Sequence[AxisMap], classes: Classes, precision: torch.dtype, out: Tensor) -> None:
        """Write into `out`, uint8, of the new shape; resampled logits are compared in `precision`."""
        self._axes = [_Blocks(each) for each in maps]
        self._classes = classes
        self._precision = precision
        self.out = out
        self._held: list[Tensor] = []  # slices [C, d, H, W] that are still needed
        self._first = 0  # of them
        self._done = 0  # blocks of the first axis

    def receive(self, box: Box, logits: Tensor) -> None:
        self._held.append(logits)
        depth = self._axes[0]
        while self._done < depth.count and int(depth.corners[self._done, -1]) < box[0].stop:
            slices = self._slices(depth.corners[self._done])
            self._label(self._done, slices)
            self._done += 1
        self._forget(min(self._done * SIDE, depth.old - 1))

    def _slices(self, corners: Tensor) -> Tensor:
        """Those of a block's corners, ``[C, SIDE + 1, H, W]``."""
        first, last = int(corners[0]) - self._first, int(corners[-1]) - self._first
        parts = []
        for part in self._held:
            parts.append(part[:, max(first, 0) : max(last + 1, 0)])
            first, last = first - part.shape[1], last - part.shape[1]
        slices = torch.cat([part for part in parts if part.shape[1]], 1)
        missing = len(corners) - slices.shape[1]
        return torch.cat([slices, slices[:, -1:].expand(-1, missing, -1, -1)], 1) if missing else slices

    def _forget(self, before: int) -> None:
        """Let go of what lies before this slice: what is left is copied, as a view would keep all of its part."""
        while self._held and self._first + self._held[0].shape[1] <= before:
            self._first += self._held.pop(0).shape[1]
        if self._held and before > self._first:
            self._held[0] = self._held[0][:, before - self._first :].clone()
            self._first = before

    def _label(self, row: int, slices: Tensor) -> None:
        """Label what lies in one row of blocks along the first axis."""
        depth, height, width = self._axes
        new = [axis.slots for axis in self._axes]
        labels, sure, rivals = self._bounded(slices)
        blocks = labels[..., None, None, None].expand(height.count, width.count, *new).contiguous()
        y, x = torch.nonzero(~sure, as_tuple=True)
        for count, chosen in _alike(rivals.sum(0)[y, x], slices.shape[0]):
            of_each = max(1, _TOGETHER // (new[0] * new[1] * new[2]))
            for part in torch.split(chosen, of_each):
                blocks[y[part], x[part]] = self._interpolated(row, slices, y[part], x[part], rivals, count)
        grid = blocks.permute(2, 0, 3, 1, 4).reshape(new[0], height.count * new[1], width.count * new[2])
        for axis, of_axis in ((1, height), (2, width)):
            if len(of_axis.slot) != grid.shape[axis]:
                grid = grid.index_select(axis, of_axis.slot.to(grid.device))
        rows = depth.rows(row)
        self.out[rows] = grid[: rows.stop - rows.start].to(self.out.device)

    def _bounded(self, slices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What bounds alone say about blocks ``[h, w]``: their labels, where these are sure, and which classes may win.

        The last is ``[C, h, w]``.
        """
        _, height, width = self._axes
        low, high = slices.amin(1), slices.amax(1)
        for axis, of_axis in ((1, height), (2, width)):
            corners = of_axis.corners.to(slices.device)
            low = _taken(low, axis, corners).amin(axis + 1)
            high = _taken(high, axis, corners).amax(axis + 1)
        labels = torch.empty(low.shape[1:], dtype=torch.uint8, device=low.device)
        if self._classes.painting is None:
            rivals = high >= low.amax(0)
            choose(high, self._classes, labels)  # of one rival, it is the largest
            return labels, rivals.sum(0) == 1, rivals
        choose(low, self._classes, labels)
        rivals = high > 0
        return labels, ((low > 0) | ~rivals).all(0), rivals

    def _interpolated(self, row: int, slices: Tensor, y: Tensor, x: Tensor, rivals: Tensor, count: int) -> Tensor:
        """Labels ``[n, d, h, w]`` of all new voxels in `n` blocks, in each of which `count` classes may win."""
        depth, height, width = self._axes
        order = list(self._classes.painting or range(len(slices)))
        # Of each block the classes that may win, in the order in which they are looked at; then others, that cannot.
        of_block = rivals[order][:, y, x].byte().sort(dim=0, descending=True, stable=True).indices[:count]
        classes = torch.tensor(order, device=slices.device)[of_block]
        values = torch.tensor(self._classes.labels, dtype=torch.uint8, device=slices.device)
        device = slices.device
        weights = [axis.weights[at].to(device) for axis, at in ((depth, row), (height, y.cpu()), (width, x.cpu()))]
        z_at = torch.arange(slices.shape[1], device=device)[None, :, None, None]
        y_at = height.corners.to(device)[y][:, None, :, None]
        x_at = width.corners.to(device)[x][:, None, None, :]
        best, labels = None, None
        for of_class in classes:
            corners = slices[of_class[:, None, None, None], z_at, y_at, x_at].float()
            logits = _mean(corners, *weights).to(self._precision)
            label = values[of_class][:, None, None, None]
            if self._classes.painting is not None:
                labels = torch.where(logits > 0, label, torch.zeros_like(label) if labels is None else labels)
            elif best is None or labels is None:
                best, labels = logits, label.expand(logits.shape)
            else:
                labels = torch.where(logits > best, label, labels)
                best = torch.maximum(best, logits)
        assert labels is not None
        return labels.expand(len(y), *(axis.slots for axis in self._axes))


class _Blocks:
    """An axis in blocks of `SIDE` voxels.

    Attributes:
        old, count: voxels of the axis, and its blocks.
        corners: ``[count, SIDE + 1]``, old voxels; the last is repeated where the axis ends.
        slots: the most new voxels that a block has.
        weights: ``[count, slots, SIDE + 1]``, float32: of the corners, for each new voxel.
        slot: where each new voxel of the axis is, if all blocks have `slots`.
    """

    def __init__(self, axis_map: AxisMap) -> None:
        pairs = axis_map.pairs
        assert pairs is not None, "resampled logits are no means of neighbours"
        self.old = axis_map.old
        self.count = int(pairs.first[-1]) // SIDE + 1
        ends = np.arange(self.count)[:, None] * SIDE + np.arange(SIDE + 1)
        self.corners = torch.from_numpy(np.minimum(ends, self.old - 1))
        block = pairs.first // SIDE
        self._starts = np.searchsorted(block, np.arange(self.count + 1))
        self.slots = int(np.diff(self._starts).max())
        within, at = np.arange(axis_map.new) - self._starts[block], pairs.first % SIDE
        weights = np.zeros((self.count, self.slots, SIDE + 1), np.float32)
        weights[block, within, at] = 1 - pairs.share
        weights[block, within, at + 1] += pairs.share.astype(np.float32)
        self.weights = torch.from_numpy(weights)
        self.slot = torch.from_numpy(block * self.slots + within)

    def rows(self, block: int) -> slice:
        """The new voxels of a block."""
        return slice(int(self._starts[block]), int(self._starts[block + 1]))


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
        _put(label, of_class > best, out)
        best = torch.maximum(best, of_class)
    return out


def paint(regions: Tensor, labels: Sequence[int], painting: Iterable[int], out: Tensor) -> Tensor:
    """Write the labels of `regions` ``[C, D, H, W]`` into `out` ``[D, H, W]``, each where it is above 0; return `out`.

    They come in the order `painting`, later over earlier; the rest is background.
    """
    out.zero_()
    for channel in painting:
        _put(labels[channel], regions[channel] > 0, out)
    return out


def _put(label: int, where: Tensor, out: Tensor) -> None:
    """Write `label` into `out` where `where`, bool, which is used up, is true."""
    if out.device.type != "cpu" or out.dtype != torch.uint8:  # MONAI's masks are float32
        out.masked_fill_(where, label)
        return
    # By bits, since masked_fill_ takes four times as long on a CPU.
    mask = where.view(torch.uint8).neg_()
    out.bitwise_xor_(mask.bitwise_and_(out.bitwise_xor(label)))


def _alike(counts: Tensor, most: int) -> Iterator[tuple[int, Tensor]]:
    """Blocks that are worked on together, by how many classes are looked at: up to a third more than need be."""
    upper, above = 1, 0
    while above < most:
        chosen = torch.nonzero((counts > above) & (counts <= upper)).flatten()
        if len(chosen):
            yield min(upper, most), chosen
        above, upper = upper, upper + max(1, upper // 3)


def _taken(values: Tensor, axis: int, corners: Tensor) -> Tensor:
    """`values` with an axis of blocks, and one of the corners in each, in the place of `axis`."""
    shape = values.shape
    return values.index_select(axis, corners.flatten()).reshape(*shape[:axis], *corners.shape, *shape[axis + 1 :])


def _mean(corners: Tensor, depth: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Interpolate ``[n, z, y, x]`` by weights ``[d, z]``, ``[n, h, y]`` and ``[n, w, x]`` to ``[n, d, h, w]``."""
    n, z, y, _ = corners.shape
    along_width = torch.bmm(corners.flatten(1, 2), width.mT).view(n, z, y, -1)
    along_height = torch.matmul(height[:, None], along_width)
    return torch.matmul(depth, along_height.flatten(2)).reshape(n, -1, *along_height.shape[2:])
