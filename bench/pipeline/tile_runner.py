"""Tiles through a session, in batches of the one size that it takes, timed and counted."""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.machine.clock import DeviceClock, Stopwatch
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import Box
from engines.base import Session

# Takes some tiles' logits: their boxes, [n, C, D, H, W] and [n, K].
Take = Callable[[list[Box], Tensor, Tensor], None]


class Passes:
    """The forward passes of a case."""

    def __init__(self, session: Session, settings: InferenceSettings, device: torch.device, watch: Stopwatch) -> None:
        self.settings = settings
        self.device = device
        self.tiles = 0  # run so far; those that only fill a batch are not counted
        self.count = 0  # batches so far
        self._session = session
        self._watch = watch
        self._events = DeviceClock(device)

    @torch.inference_mode()
    def run(self, volume: Tensor, boxes: list[Box], take: Take, stage: str = "stitch") -> None:
        """Run the tiles of a padded ``[D, H, W]`` volume; cutting and taking are billed to `stage`."""
        batch = self.settings.batch
        # x: [batch, 1, D, H, W], filled anew for every pass: a session needs it until its logits are there.
        x = volume.new_empty(batch, 1, *self.settings.tile)
        for first in range(0, len(boxes), batch):
            some = boxes[first : first + batch]
            with self._watch.stage(stage, device=True):
                self._cut(volume, some, x)
            with self._watch.stage("forward", device=True), self._events.span():
                segmentation, classification = self._session.infer(x)
            with self._watch.stage(stage, device=True):
                take(some, segmentation[: len(some)], classification[: len(some)])
            self.count += 1
            self.tiles += len(some)

    def device_ns(self) -> int | None:
        """Nanoseconds of all forwards by device events; None on a CPU."""
        return self._events.elapsed_ns()

    def _cut(self, volume: Tensor, boxes: list[Box], x: Tensor) -> None:
        # Engines are built for one batch size, so the last batch repeats its last tile.
        filled = boxes + boxes[-1:] * (self.settings.batch - len(boxes))
        for tile, box in zip(x[:, 0], filled, strict=True):
            tile.copy_(volume[box])
