"""The strategies behind ``--roi``: which part of a volume the network is run on.

All are `Strategy`: `crop` may cut a box out of the image before it is prepared, `select` may leave out tiles of it.
What they cost is in the case: host work in the stage ``roi``, passes in the stage ``forward``. One that finds nothing,
or is unsure, falls back to the full volume.

A network's finding is *sure* if its volumes lie in the task's bounds (`models.task.Task.foreground_ml`): its largest
piece is no speck, and all pieces together are not much of the body, which a network names that does not cope with what
it is shown. So strategies that ask the network exist for tasks with such bounds, and `body` for CT.

With test-time augmentation their own passes are mirrored like all others: `foreground` keeps the logits of its first
pass, and `coarse` compares numbers of tiles that grow alike.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bench.choices import ROIS
from bench.data.volume import Volume
from bench.pipeline import tiles
from bench.pipeline.finite import is_finite, overflow
from bench.pipeline.merge import foreground_lead
from bench.pipeline.preprocess import normalise
from bench.pipeline.region import Component, Region, around, components, full_box, overlap, shifted, widened
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tile_runner import LogitsSink, RunTiles, TileRunner, traced
from bench.pipeline.tiles import Box, Grid, Shape, triple

BODY_ABOVE_HU = -500.0  # half-way between air and soft tissue
BODY_MARGIN_MM = 10.0
_STRIDE = 4  # the body is large: every fourth voxel of an axis finds its box to within the margin

PIECE_ML = 0.1  # smaller pieces are specks
COARSE_MARGIN_MM = 10.0
COARSE_FACTOR = 2  # per axis; coarser than that a network has hardly a chance
COARSE_OVERLAP = 0.25
COARSE_SHARE = 0.125  # of the full volume's tiles: a coarse pass that takes more costs more than its boxes save
NEAR_MARGIN_MM = 15.0
_NEAR_STRIDE = 2  # voxels between those looked at of the first pass

Intensities = NDArray[np.float32] | torch.Tensor  # of a `Volume`


class Strategy:
    """The full volume, ``none``; the others change one of its two steps.

    Attributes:
        needs_network: `crop` does.
        leaves_out_tiles: `select` may.
        margin_mm: around what it finds, where the settings name none.
    """

    needs_network = leaves_out_tiles = False
    margin_mm = 0.0

    def crop(
        self,
        intensities: Intensities,
        _spacing_mm: tuple[float, ...],
        _runner: TileRunner | None,
        _margin_mm: float,
    ) -> Region:
        """Choose a box of images ``[C, x, y, z]``; without a runner there is no network to ask."""
        return Region.of(full_box(intensities.shape[1:]))

    def select(
        self, region: Region, grid: Grid, _settings: InferenceSettings, _spacing_mm: tuple[float, ...],
        _run: RunTiles, _on_logits: LogitsSink,
    ) -> tuple[Region, list[Box]]:  # fmt: skip
        """Choose tiles of the region's `grid`: the region, and those that are still to be run.

        Tiles of the grid that are run here are handed on to the segmentation as well.
        """
        return region, grid.boxes


class Body(Strategy):
    """Bounding box of the largest connected body of tissue in the first channel, a CT, plus a margin.

    The full volume where there is none.
    """

    margin_mm = BODY_MARGIN_MM

    def crop(
        self,
        intensities: Intensities,
        spacing_mm: tuple[float, ...],
        _runner: TileRunner | None,
        margin_mm: float,
    ) -> Region:
        shape = intensities.shape[1:]
        seen = torch.as_tensor(intensities[0, ::_STRIDE, ::_STRIDE, ::_STRIDE])
        bodies = components((seen > BODY_ABOVE_HU).cpu().numpy(), spacing_mm)
        if not bodies:
            return replace(Region.of(full_box(shape)), fallback=True)
        margin = tuple(_STRIDE + m for m in _voxels(margin_mm, spacing_mm))
        return Region.of(widened(bodies[0].box, margin, shape, (_STRIDE,) * 3))


class Coarse(Strategy):
    """The box around what the network finds at half the resolution plus a margin.

    Axes of at least one and a half tiles are halved by averaging, and the tiles overlap by `COARSE_OVERLAP`. The box
    holds every piece that is no speck. Where the coarse pass would take more than `COARSE_SHARE` of the full volume's
    tiles, it is left out and the full volume taken, which is no fallback.
    """

    needs_network = True
    margin_mm = COARSE_MARGIN_MM

    def crop(
        self,
        intensities: Intensities,
        spacing_mm: tuple[float, ...],
        runner: TileRunner | None,
        margin_mm: float,
    ) -> Region:
        shape, whole = triple(intensities.shape[1:]), Region.of(full_box(intensities.shape[1:]))
        if runner is None:
            return whole
        settings = runner.settings
        factor = triple(COARSE_FACTOR if 2 * n >= 3 * side else 1 for n, side in zip(shape, settings.tile, strict=True))
        small = triple(-(-n // f) for n, f in zip(shape, factor, strict=True))
        grid = tiles.sliding_window(small, settings.tile, COARSE_OVERLAP)
        if len(grid.starts) > COARSE_SHARE * len(tiles.sliding_window(shape, settings.tile, settings.overlap).starts):
            return whole
        coarse = grid.pad(normalise(_averaged(intensities, factor, runner.device), settings.window))
        weights = tiles.gaussian_weights(settings.tile).to(runner.device)
        foreground = _ForegroundMerger(grid, weights, settings.painting is not None)
        before = runner.batches, runner.tiles

        def run(boxes: list[Box], on_logits: LogitsSink) -> None:
            runner.run(coarse, boxes, on_logits, stage="roi")

        run(grid.boxes, foreground.aggregate)
        if not foreground.finite:
            raise traced(overflow(torch.float32), run, grid.boxes, False)
        coarse_mm = tuple(f * mm for f, mm in zip(factor, spacing_mm, strict=True))
        pieces = components(foreground.mask().cpu().numpy(), coarse_mm)
        boxes = [piece.box for piece in pieces if piece.volume_ml >= PIECE_ML]
        region, sure = whole, bool(boxes) and _sure(pieces, settings)
        if sure:
            margin = _voxels(margin_mm, spacing_mm)
            region = Region.of(widened(around(boxes), margin, shape, factor))
        batches, passed = runner.batches - before[0], runner.tiles - before[1]
        return replace(region, fallback=not sure, batches=batches, tiles=passed)


class Foreground(Strategy):
    """Every tile near anything that a first pass without overlap finds.

    The first pass takes tiles of the grid itself wherever as few of them cover an axis, so that it costs nothing more.
    A tile is run if it reaches into the box around a piece that is no speck plus a margin; inside these boxes the
    labels are those of the full grid.
    """

    leaves_out_tiles = True
    margin_mm = NEAR_MARGIN_MM

    def select(
        self, region: Region, grid: Grid, settings: InferenceSettings, spacing_mm: tuple[float, ...],
        run: RunTiles, on_logits: LogitsSink,
    ) -> tuple[Region, list[Box]]:  # fmt: skip
        first, wanted = tiles.without_overlap(grid), set(grid.starts)
        mask = np.zeros(grid.padded, bool)
        finite = True

        def on_first_logits(boxes: list[Box], segmentation: torch.Tensor, classification: torch.Tensor) -> None:
            nonlocal finite
            finite = finite and is_finite(segmentation)
            leads = foreground_lead(segmentation, settings.painting is not None)
            for box, foreground in zip(boxes, leads > 0, strict=True):
                mask[box] |= foreground.cpu().numpy()
            shared = [at for at, box in enumerate(boxes) if _start(box) in wanted]
            if shared:
                on_logits([boxes[at] for at in shared], segmentation[shared], classification[shared])

        run(first, on_first_logits)
        if not finite:  # nothing would be near such a tile, and it might never be run again
            raise traced(overflow(torch.float32), run, first, False)
        seen = {_start(box) for box in first}
        rest = [box for box in grid.boxes if _start(box) not in seen]
        mirrors = len(settings.flips)
        passed, reused = mirrors * len(first), mirrors * len(seen & wanted)
        region = replace(region, batches=-(-passed // settings.batch), tiles=passed, reused=reused)
        near = _near(mask[grid.interior], settings, spacing_mm, margin_of(self, settings))
        if not near:
            return replace(region, fallback=True), rest
        kept = tuple(shifted(box, region.corner) for box in near)
        padded = [shifted(box, grid.before) for box in near]
        return replace(region, kept=kept), [box for box in rest if any(overlap(box, near_box) for near_box in padded)]


STRATEGIES: Mapping[str, Strategy] = dict(zip(ROIS, (Strategy(), Body(), Coarse(), Foreground()), strict=True))


def choose_region(volume: Volume, settings: InferenceSettings, runner: TileRunner | None = None) -> Region:
    """The box of a volume that is prepared and tiled, grown to all that its tiles can cover.

    Without `runner` no strategy is applied that needs the network.
    """
    strategy = STRATEGIES[settings.roi]
    region = strategy.crop(volume.intensities, volume.spacing_mm, runner, margin_of(strategy, settings))
    shape = volume.intensities.shape[1:]
    return region.grown(tiles.expand_to_tiles(region.box, triple(shape), settings.tile, settings.overlap))


def margin_of(strategy: Strategy, settings: InferenceSettings) -> float:
    """The margin in mm around what `strategy` finds."""
    return strategy.margin_mm if settings.margin_mm is None else settings.margin_mm


class _ForegroundMerger:
    """Whether something other than background is likelier, of voxels in tiles that overlap.

    Attributes:
        finite: whether all logits so far were.
    """

    def __init__(self, grid: Grid, weights: torch.Tensor, overlapping: bool) -> None:
        self._grid = grid
        self._overlapping = overlapping
        self._weights = weights
        self.finite = True
        self._lead = weights.new_zeros(grid.padded)  # of the best class over background, summed by weight

    def aggregate(self, boxes: list[Box], segmentation: torch.Tensor, _classification: torch.Tensor) -> None:
        self.finite = self.finite and is_finite(segmentation)
        leads = foreground_lead(segmentation.float(), self._overlapping)
        for box, lead in zip(boxes, leads, strict=True):
            self._lead[box] += lead * self._weights

    def mask(self) -> torch.Tensor:
        return self._lead[self._grid.interior] > 0


def _near(
    mask: NDArray[np.bool_], settings: InferenceSettings, spacing_mm: tuple[float, ...], margin_mm: float
) -> list[Box]:
    """Boxes around the pieces of `mask` plus a margin; none where the finding is not sure."""
    stride = (_NEAR_STRIDE,) * 3
    pieces = components(mask[:: stride[0], :: stride[1], :: stride[2]], tuple(_NEAR_STRIDE * mm for mm in spacing_mm))
    if not _sure(pieces, settings):
        return []
    margin = tuple(_NEAR_STRIDE + m for m in _voxels(margin_mm, spacing_mm))
    return [widened(piece.box, margin, mask.shape, stride) for piece in pieces if piece.volume_ml >= PIECE_ML]


def _sure(pieces: list[Component], settings: InferenceSettings) -> bool:
    assert settings.foreground_ml is not None, "a plan asks for no strategy that needs bounds where there are none"
    least, most = settings.foreground_ml
    return bool(pieces) and pieces[0].volume_ml >= least and sum(p.volume_ml for p in pieces) <= most


def _averaged(intensities: Intensities, factor: Shape, device: torch.device) -> torch.Tensor:
    volume = torch.as_tensor(intensities).contiguous().to(device)
    return functional.avg_pool3d(volume, factor, ceil_mode=True, count_include_pad=False)


def _voxels(margin_mm: float, spacing_mm: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(int(np.ceil(margin_mm / mm)) for mm in spacing_mm)


def _start(box: Box) -> Shape:
    return box[0].start, box[1].start, box[2].start
