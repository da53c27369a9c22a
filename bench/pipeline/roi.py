"""The strategies behind ``--roi``: which part of a volume the network is run on.

All are `Strategy`: `crop` may cut a box out of the image before it is prepared, `select` may leave out tiles of it.
What they cost is in the case: host work in the stage ``roi``, passes in the stage ``forward``. One that finds nothing,
or is unsure, falls back to the full volume.

A network's finding is *sure* if its largest piece has at least `PANCREAS_ML` and all pieces have at most `MOST_ML`
together: pancreas and lesions lie between, while a network that does not cope with what it is shown names specks or
much of the body.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench.pipeline import tiles
from bench.pipeline.preprocess import normalise
from bench.pipeline.region import Component, Region, around, components, everything, overlap, shifted, widened
from bench.pipeline.tile_runner import Passes, Take
from bench.pipeline.tiles import Box, Grid, Shape

BODY_ABOVE_HU = -500.0  # half-way between air and soft tissue
BODY_MARGIN_MM = 10.0
_STRIDE = 4  # the body is large: every fourth voxel of an axis finds its box to within the margin

PANCREAS_ML, MOST_ML = 5.0, 300.0
PIECE_ML = 0.1  # smaller pieces are specks
COARSE_MARGIN_MM = 10.0
COARSE_FACTOR = 2  # per axis; coarser than that a network has hardly a chance
COARSE_OVERLAP = 0.25
COARSE_SHARE = 0.125  # of the full volume's tiles: a coarse pass that takes more costs more than its boxes save
NEAR_MARGIN_MM = 15.0
_NEAR_STRIDE = 2  # voxels between those looked at of the first pass

Run = Callable[[list[Box], Take], None]  # a pass over tiles of the prepared volume, billed to the strategy


class Strategy:
    """The full volume, ``none``; the others change one of its two steps.

    Attributes:
        asks_network: `crop` does.
    """

    asks_network = False

    def crop(self, intensities: NDArray[np.float32], spacing_mm: tuple[float, ...], passes: Passes | None) -> Region:  # noqa: ARG002
        """Choose a box of an image ``[x, y, z]`` in HU; without `passes` there is no network to ask."""
        return Region.of(everything(intensities.shape))

    def select(
        self, region: Region, grid: Grid, spacing_mm: tuple[float, ...], run: Run, add: Take  # noqa: ARG002
    ) -> tuple[Region, list[Box]]:  # fmt: skip
        """Choose tiles of the region's `grid`: the region, and those that are still to be run.

        Tiles of the grid that are `run` here are handed to `add`, which adds them to the segmentation.
        """
        return region, grid.boxes


class Body(Strategy):
    """Bounding box of the largest connected body of tissue plus a margin; the full volume where there is none."""

    def crop(self, intensities: NDArray[np.float32], spacing_mm: tuple[float, ...], passes: Passes | None) -> Region:  # noqa: ARG002
        shape = intensities.shape
        tissue = intensities[::_STRIDE, ::_STRIDE, ::_STRIDE] > BODY_ABOVE_HU
        found = components(tissue, spacing_mm)
        if not found:
            return replace(Region.of(everything(shape)), fallback=True)
        margin = tuple(_STRIDE + m for m in _voxels(BODY_MARGIN_MM, spacing_mm))
        return Region.of(widened(found[0].box, margin, shape, (_STRIDE,) * 3))


class Coarse(Strategy):
    """The box around what the network finds at half the resolution plus a margin.

    Axes of at least one and a half tiles are halved by averaging, and the tiles overlap by `COARSE_OVERLAP`. The box
    holds every piece that is no speck. Where the coarse pass would take more than `COARSE_SHARE` of the full volume's
    tiles, it is left out and the full volume taken, which is no fallback.
    """

    asks_network = True

    def crop(self, intensities: NDArray[np.float32], spacing_mm: tuple[float, ...], passes: Passes | None) -> Region:
        shape, whole = _triple(intensities.shape), Region.of(everything(intensities.shape))
        if passes is None:
            return whole
        settings = passes.settings
        factor = _triple(
            COARSE_FACTOR if 2 * n >= 3 * side else 1 for n, side in zip(shape, settings.tile, strict=True)
        )
        small = _triple(-(-n // f) for n, f in zip(shape, factor, strict=True))
        grid = tiles.sliding_window(small, settings.tile, COARSE_OVERLAP)
        if len(grid.starts) > COARSE_SHARE * len(tiles.sliding_window(shape, settings.tile, settings.overlap).starts):
            return whole
        image = grid.pad(normalise(_averaged(intensities, factor, passes.device), settings.window))
        stitcher = _Foreground(grid, tiles.gaussian_weights(settings.tile).to(passes.device))
        before = passes.count
        passes.run(image, grid.boxes, stitcher.add, stage="roi")
        coarse_mm = tuple(f * mm for f, mm in zip(factor, spacing_mm, strict=True))
        found = components(stitcher.foreground().cpu().numpy(), coarse_mm)
        region = whole
        if _sure(found):
            margin = _voxels(COARSE_MARGIN_MM, spacing_mm)
            pieces = [one.box for one in found if one.volume_ml >= PIECE_ML]
            region = Region.of(widened(around(pieces), margin, shape, factor))
        return replace(region, fallback=not _sure(found), passes=passes.count - before, tiles=len(grid.starts))


class Foreground(Strategy):
    """Every tile near anything that a first pass without overlap finds.

    The first pass takes tiles of the grid itself wherever as few of them cover an axis, so that it costs nothing more.
    A tile is run if it reaches into the box around a piece that is no speck plus a margin; inside these boxes the
    labels are those of the full grid.
    """

    def select(
        self, region: Region, grid: Grid, spacing_mm: tuple[float, ...], run: Run, add: Take
    ) -> tuple[Region, list[Box]]:
        first, wanted = tiles.without_overlap(grid), set(grid.starts)
        mask = np.zeros(grid.padded, bool)
        passes = 0

        def take(boxes: list[Box], segmentation: torch.Tensor, classification: torch.Tensor) -> None:
            nonlocal passes
            passes += 1
            for box, found in zip(boxes, segmentation[:, 1:].amax(1) > segmentation[:, 0], strict=True):
                mask[box] |= found.cpu().numpy()
            shared = [at for at, box in enumerate(boxes) if _start(box) in wanted]
            if shared:
                add([boxes[at] for at in shared], segmentation[shared], classification[shared])

        run(first, take)
        seen = {_start(box) for box in first}
        rest = [box for box in grid.boxes if _start(box) not in seen]
        region = replace(region, passes=passes, tiles=len(first), reused=len(seen & wanted))
        near = _near(mask[grid.interior], spacing_mm)
        if not near:
            return replace(region, fallback=True), rest
        kept = tuple(shifted(box, region.corner) for box in near)
        padded = [shifted(box, grid.before) for box in near]
        return replace(region, kept=kept), [box for box in rest if any(overlap(box, one) for one in padded)]


ROIS: Mapping[str, Strategy] = {"none": Strategy(), "body": Body(), "coarse": Coarse(), "foreground": Foreground()}


class _Foreground:
    """Whether something other than background is likelier, of voxels in tiles that overlap."""

    def __init__(self, grid: Grid, weights: torch.Tensor) -> None:
        self._grid = grid
        self._weights = weights
        self._lead = weights.new_zeros(grid.padded)  # of the best class over background, summed by weight

    def add(self, boxes: list[Box], segmentation: torch.Tensor, _classification: torch.Tensor) -> None:
        for box, logits in zip(boxes, segmentation.float(), strict=True):
            self._lead[box] += (logits[1:].amax(0) - logits[0]) * self._weights

    def foreground(self) -> torch.Tensor:
        return self._lead[self._grid.interior] > 0


def _near(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> list[Box]:
    """Boxes around the pieces of `mask` plus a margin; none where the finding is not sure."""
    stride = (_NEAR_STRIDE,) * 3
    found = components(mask[:: stride[0], :: stride[1], :: stride[2]], tuple(_NEAR_STRIDE * mm for mm in spacing_mm))
    if not _sure(found):
        return []
    margin = tuple(_NEAR_STRIDE + m for m in _voxels(NEAR_MARGIN_MM, spacing_mm))
    return [widened(one.box, margin, mask.shape, stride) for one in found if one.volume_ml >= PIECE_ML]


def _sure(found: list[Component]) -> bool:
    return bool(found) and found[0].volume_ml >= PANCREAS_ML and sum(one.volume_ml for one in found) <= MOST_ML


def _averaged(intensities: NDArray[np.float32], factor: Shape, device: torch.device) -> torch.Tensor:
    volume = torch.from_numpy(np.ascontiguousarray(intensities)).to(device)
    return functional.avg_pool3d(volume[None], factor, ceil_mode=True, count_include_pad=False)[0]


def _voxels(margin_mm: float, spacing_mm: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(int(np.ceil(margin_mm / mm)) for mm in spacing_mm)


def _start(box: Box) -> Shape:
    return box[0].start, box[1].start, box[2].start


def _triple(values: Iterable[int]) -> Shape:
    x, y, z = values
    return x, y, z
