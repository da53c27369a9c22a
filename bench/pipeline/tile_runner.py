"""Tiles through a session, in batches of the one size that it takes, timed and counted."""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.errors import NotFiniteError
from bench.machine.clock import DeviceClock, Stopwatch
from bench.pipeline.finite import TileCounts
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import Box
from engines.base import Session

# Receives the logits of some tiles: their boxes, [n, C, D, H, W] and [n, K].
LogitsSink = Callable[[list[Box], Tensor, Tensor], None]
RunTiles = Callable[[list[Box], LogitsSink], None]  # a pass over tiles of one volume


def traced(error: NotFiniteError, run: RunTiles, boxes: list[Box], classifies: bool) -> NotFiniteError:
    """Run tiles again whose sums gave `error`; what is returned names how many of them are at fault."""
    counts = TileCounts(classifies)
    run(boxes, lambda _boxes, segmentation, classification: counts.add(segmentation, classification))
    return counts.error(error)


class TileRunner:
    """Runs the tiles of one case.

    Attributes:
        tiles: run so far; those that only complete a batch are not counted.
        batches: forward passes so far.
    """

    def __init__(self, session: Session, settings: InferenceSettings, device: torch.device, watch: Stopwatch) -> None:
        self.settings = settings
        self.device = device
        self.tiles = 0
        self.batches = 0
        self._session = session
        self._watch = watch
        self._events = DeviceClock(device)

    @torch.inference_mode()
    def run(self, volume: Tensor, boxes: list[Box], on_logits: LogitsSink, stage: str = "stitch") -> None:
        """Run the tiles of a padded ``[C, D, H, W]`` volume; cutting them and `on_logits` are billed to `stage`."""
        size = self.settings.batch
        # x: [size, C, D, H, W], written anew for every batch: a session needs it until its logits are there.
        x = volume.new_empty(size, volume.shape[0], *self.settings.tile)
        for first in range(0, len(boxes), size):
            batch = boxes[first : first + size]
            with self._watch.stage(stage, device=True):
                self._cut(volume, batch, x)
            with self._watch.stage("forward", device=True), self._events.span():
                segmentation, classification = self._session.infer(x)
            with self._watch.stage(stage, device=True):
                on_logits(batch, segmentation[: len(batch)], classification[: len(batch)])
            self.batches += 1
            self.tiles += len(batch)

    def device_ns(self) -> int | None:
        """Nanoseconds of all forwards by device events; None on a CPU."""
        return self._events.elapsed_ns()

    def _cut(self, volume: Tensor, boxes: list[Box], x: Tensor) -> None:
        # Engines are built for one batch size, so the last batch repeats its last tile.
        complete = boxes + boxes[-1:] * (self.settings.batch - len(boxes))
        for tile, box in zip(x, complete, strict=True):
            tile.copy_(volume[(slice(None), *box)])
