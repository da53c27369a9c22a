"""One case from file to file, timed stage by stage."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.measure import DeviceClock, Stopwatch
from bench.pipeline.preparation import preparation_of
from bench.pipeline.stitch import Stitcher
from bench.pipeline.tiles import Box, Grid, Shape
from bench.pipeline.write import write_mask
from engines.base import Session
from models.model import LABELS, Plans


@dataclass(frozen=True)
class Recipe:
    """How a volume is brought to the network; held equal for every backend of a run.

    Attributes:
        protocol: ``sliding-window`` or ``center-patch``.
        tile: sides of a tile in voxels.
        overlap: share of a tile's side that neighbours have in common.
        batch: tiles in every forward pass.
        roi: name of a strategy in `bench.pipeline.roi.ROIS`.
        window: HU that are mapped to 0 and 1.
        labels: in masks, of each of the network's classes; the first is background.
        subtypes: that the network tells apart; 0 where it only segments.
        plans: nnU-Net's preprocessing, in the place of `window`; None for the volume as stored.
    """

    protocol: str
    tile: Shape
    overlap: float
    batch: int
    roi: str
    window: tuple[float, float]
    labels: tuple[int, ...] = LABELS
    subtypes: int = 3
    plans: Plans | None = None


@dataclass(frozen=True)
class Outcome:
    """What a case gave, and the nanoseconds it took from the file on disk to the mask on disk.

    `subtype` is None where the network has no classification.
    """

    subtype: int | None
    tiles: int
    case_ns: int
    stages_ns: dict[str, int]
    device_ns: int | None


@dataclass(frozen=True)
class Prepared:
    """A case that waits for the network.

    Attributes:
        image: the nibabel image; its header and affine go into the mask.
        origin: what the way back needs of the case.
        region: the part of the image that the network is run on.
        grid: the tiles.
        volume: float32, padded to at least one tile.
    """

    image: Any
    origin: Any
    region: Box
    grid: Grid
    volume: Tensor


@dataclass(frozen=True)
class Labelled:
    """A case that waits to be written: its labels on the image's grid, and what else the network gave."""

    image: Any
    labels: NDArray[np.uint8]
    subtype: int | None
    tiles: int
    device_ns: int | None


class Pipeline:
    """Runs cases through a session.

    Memory of a case at its peak, in bytes for each voxel of the region, C being the network's classes: 4 for the
    prepared volume and 4 C for the sums of logits while tiles run, then 2 more for the labels in both orders of the
    axes; 18 with three classes. Reading takes 4 and what the file holds (2 for int16) beside the packed file, preparing
    8. A volume that is shorter than a tile takes 4 more until it is padded.
    """

    def __init__(self, session: Session, recipe: Recipe, device: str = "cpu") -> None:
        self._session = session
        self._recipe = recipe
        self._device = torch.device(device)
        self._way = preparation_of(recipe, self._device)

    def run(self, image: Path, mask: Path) -> Outcome:
        """Predict the case in `image`, write its `mask`, and time both.

        Raises:
            InputError: the image cannot be read, or the mask not be written.
        """
        watch = self.stopwatch({})
        start = time.perf_counter_ns()
        labelled = self.label(self.prepare(image, watch), watch)
        with watch.stage("write"):
            write_mask(mask, labelled.labels, labelled.image)
        case_ns = time.perf_counter_ns() - start
        return Outcome(labelled.subtype, labelled.tiles, case_ns, watch.stages_ns, labelled.device_ns)

    def stopwatch(self, stages_ns: dict[str, int]) -> Stopwatch:
        """One that waits for the device; `stages_ns` are behind a case already."""
        watch = Stopwatch(self._session.sync)
        watch.stages_ns |= stages_ns
        return watch

    def prepare(self, image: Path, watch: Stopwatch) -> Prepared:
        """Read a case and make it ready for the network, in the machine's memory; without use of the session.

        Raises:
            InputError: it cannot be read.
        """
        with watch.stage("read"):
            case = self._way.read(image)
        with watch.stage("roi"):
            region = self._way.region(case)
        with watch.stage("preprocess"):
            volume = self._way.prepare(case, region)[0]
            grid = self._grid(volume)
            return Prepared(case.image, self._way.origin(case), region, grid, grid.pad(volume))

    def label(self, prepared: Prepared, watch: Stopwatch) -> Labelled:
        """Run the network over a case and stitch what it gives."""
        with watch.stage("preprocess", device=True):
            volume = prepared.volume.to(self._device)
        stitcher, device_ns = self._forward(volume, prepared.grid, watch)
        with watch.stage("stitch", device=True):
            labels = self._way.labels(prepared.origin, prepared.region, stitcher)
            subtype = stitcher.subtype() if self._recipe.subtypes else None
        return Labelled(prepared.image, labels, subtype, len(prepared.grid.starts), device_ns)

    def logits(self, volume: Tensor) -> Tensor:
        """Whole-volume logits ``[C, D, H, W]`` of a prepared ``[D, H, W]`` volume."""
        grid = self._grid(volume)
        stitcher, _ = self._forward(grid.pad(volume), grid, self.stopwatch({}))
        return stitcher.logits()

    def _grid(self, volume: Tensor) -> Grid:
        x, y, z = volume.shape
        return self._way.grid((x, y, z))

    @torch.inference_mode()
    def _forward(self, volume: Tensor, grid: Grid, watch: Stopwatch) -> tuple[Stitcher, int | None]:
        stitcher, boxes, batch = self._way.stitcher(grid), grid.boxes, self._recipe.batch
        # x: [batch, 1, D, H, W], filled anew for every pass: a session needs it until its logits are there.
        x = volume.new_empty(batch, 1, *grid.tile)
        events = DeviceClock(self._device)
        for first in range(0, len(boxes), batch):
            some = boxes[first : first + batch]
            with watch.stage("stitch", device=True):
                self._cut(volume, some, x)
            with watch.stage("forward", device=True), events.span():
                segmentation, classification = self._session.infer(x)
            with watch.stage("stitch", device=True):
                stitcher.add(some, segmentation[: len(some)], classification[: len(some)])
        return stitcher, events.elapsed_ns()

    def _cut(self, volume: Tensor, boxes: list[Box], x: Tensor) -> None:
        # Engines are built for one batch size, so the last batch repeats its last tile.
        filled = boxes + boxes[-1:] * (self._recipe.batch - len(boxes))
        for tile, box in zip(x[:, 0], filled, strict=True):
            tile.copy_(volume[box])
