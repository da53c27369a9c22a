"""Tiles through a session, mirrored or not, in batches of the one size that it takes, timed and counted."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from bench.errors import NotFiniteError
from bench.machine.clock import Stopwatch
from bench.machine.threads import one_thread
from bench.pipeline.finite import TileCounts
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import Box
from engines.base import has_own_threads

# Receives the logits of some tiles: their boxes, [n, C, D, H, W] and [n, K].
LogitsSink = Callable[[list[Box], Tensor, Tensor], None]
RunTiles = Callable[[list[Box], LogitsSink], None]  # a pass over tiles of one volume
Pass = tuple[Box, tuple[int, ...]]  # over one tile, and the axes of it that are mirrored


def traced(error: NotFiniteError, run: RunTiles, boxes: list[Box], classifies: bool) -> NotFiniteError:
    """Run tiles again whose sums gave `error`; what is returned names how many of them are at fault."""
    counts = TileCounts(classifies)
    run(boxes, lambda _boxes, segmentation, classification: counts.add(segmentation, classification))
    return counts.error(error)


class Infers(Protocol):
    """What a session does with a batch of tiles."""

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[batch, channels, D, H, W]`` to logits, as `engines.base.Session` does."""
        ...


class TileRunner:
    """Runs the tiles of one case.

    Attributes:
        tiles: run so far, each of its mirrors too; those that only complete a batch are not counted.
        batches: forward passes so far.
    """

    def __init__(self, session: Infers, settings: InferenceSettings, device: torch.device, watch: Stopwatch) -> None:
        self.settings = settings
        self.device = device
        self.tiles = 0
        self.batches = 0
        self._session = session
        self._alone = has_own_threads(session)
        self._watch = watch

    @torch.inference_mode()
    def run(self, volume: Tensor, boxes: list[Box], on_logits: LogitsSink, stage: str = "stitch") -> None:
        """Run the tiles of a padded ``[C, D, H, W]`` volume; cutting them and `on_logits` are billed to `stage`.

        With test-time augmentation `on_logits` gets the mean over a tile's mirrors, tile by tile. The mirrors of a tile
        follow each other, so that as many as a batch takes share it. Beside an engine that has threads of its own all
        but its passes is done in this thread.
        """
        with one_thread() if self._alone else nullcontext():
            self._run(volume, boxes, on_logits, stage)

    def _run(self, volume: Tensor, boxes: list[Box], on_logits: LogitsSink, stage: str) -> None:
        size, flips = self.settings.batch, self.settings.flips
        passes = [(box, axes) for box in boxes for axes in flips]
        mean = _MirrorMean(len(flips), on_logits)
        # x: [size, C, D, H, W], written anew for every batch: a session needs it until its logits are there.
        x = volume.new_empty(size, volume.shape[0], *self.settings.tile)
        for first in range(0, len(passes), size):
            batch = passes[first : first + size]
            with self._watch.stage(stage, device=True):
                self._cut(volume, batch, x)
            with self._watch.stage("forward", device=True):
                segmentation, classification = self._session.infer(x)
            with self._watch.stage(stage, device=True):
                mean.add(batch, segmentation[: len(batch)], classification[: len(batch)])
            self.batches += 1
            self.tiles += len(batch)

    def _cut(self, volume: Tensor, passes: list[Pass], x: Tensor) -> None:
        # Engines are built for one batch size, so the last batch repeats its last tile.
        complete = passes + passes[-1:] * (self.settings.batch - len(passes))
        for tile, (box, axes) in zip(x, complete, strict=True):
            tile.copy_(_mirrored(volume[(slice(None), *box)], axes))


class _MirrorMean:
    """Averages the logits of the passes over a tile, added up in the order of nnU-Net's predictor.

    Args:
        passes: over each tile; of a single one the logits are handed on as they are.
        on_logits: gets the mean.
    """

    def __init__(self, passes: int, on_logits: LogitsSink) -> None:
        self._passes = passes
        self._on_logits = on_logits
        self._sums: tuple[Tensor, Tensor] | None = None  # of the tile that is not finished
        self._added = 0

    def add(self, passes: list[Pass], segmentation: Tensor, classification: Tensor) -> None:
        """Take the logits of some passes, ``[n, C, D, H, W]`` and ``[n, K]``, which the session may overwrite."""
        if self._passes == 1:
            self._on_logits([box for box, _ in passes], segmentation, classification)
            return
        for (box, axes), logits, classes in zip(passes, segmentation, classification, strict=True):
            if self._sums is None:
                self._sums = logits.clone(), classes.clone()  # the first pass is the one that is not mirrored
            else:
                self._sums[0].add_(_mirrored(logits, axes))
                self._sums[1].add_(classes)
            self._added += 1
            if self._added == self._passes:
                means = [total.div_(self._passes)[None] for total in self._sums]
                self._sums, self._added = None, 0
                self._on_logits([box], *means)


def _mirrored(tile: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A tile ``[C, D, H, W]`` mirrored along `axes` of its three."""
    return tile.flip([1 + axis for axis in axes]) if axes else tile
