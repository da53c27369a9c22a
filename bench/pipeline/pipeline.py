"""One case from file to file, timed stage by stage."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.measure import Stopwatch
from bench.pipeline.passes import Passes, Take
from bench.pipeline.preparation import preparation_of
from bench.pipeline.stitch import Stitcher
from bench.pipeline.tiles import Box, Grid, Shape
from bench.pipeline.write import write_mask
from engines.base import Session
from models.model import LABELS, Plans
from reports.record import Roi


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

    `subtype` is None where the network has no classification, `roi` where the whole volume was asked for.
    """

    subtype: int | None
    tiles: int
    case_ns: int
    stages_ns: dict[str, int]
    device_ns: int | None
    roi: Roi | None = None


class Pipeline:
    """Runs cases through a session."""

    def __init__(self, session: Session, recipe: Recipe, device: str = "cpu") -> None:
        self._session = session
        self._recipe = recipe
        self._device = torch.device(device)
        self._way = preparation_of(recipe, self._device)

    def run(self, image: Path, mask: Path) -> Outcome:
        """Predict the case in `image`, write its `mask`, and time both.

        Raises:
            InputError: the image cannot be read.
        """
        watch = Stopwatch(self._session.sync)
        passes = Passes(self._session, self._recipe, self._device, watch)
        start = time.perf_counter_ns()
        with watch.stage("read"):
            case = self._way.read(image)
        with watch.stage("roi", device=True):
            region = self._way.region(case, passes)
        with watch.stage("preprocess", device=True):
            prepared = self._way.prepare(case, region)[0].to(self._device)
            grid = self._grid(prepared)
            padded = grid.pad(prepared)
        stitcher = self._way.stitcher(grid)

        def look(boxes: list[Box], take: Take) -> None:
            passes.run(padded, boxes, take, stage="roi")

        def add(boxes: list[Box], segmentation: Tensor, classification: Tensor) -> None:
            with watch.stage("stitch", device=True):
                stitcher.add(boxes, segmentation, classification)

        with watch.stage("roi", device=True):
            region, boxes = self._way.select(case, region, grid, look, add)
        passes.run(padded, boxes, stitcher.add)
        with watch.stage("stitch", device=True):
            labels = self._way.labels(case, region, stitcher)
            subtype = stitcher.subtype() if self._recipe.subtypes else None
        with watch.stage("write"):
            write_mask(mask, labels, case.image)
        case_ns = time.perf_counter_ns() - start
        roi = None if self._recipe.roi == "none" else region.recorded()
        return Outcome(subtype, passes.tiles, case_ns, watch.stages_ns, passes.device_ns(), roi)

    def logits(self, volume: Tensor) -> Tensor:
        """Whole-volume logits ``[C, D, H, W]`` of a prepared ``[D, H, W]`` volume."""
        grid = self._grid(volume)
        stitcher, _ = self._forward(grid.pad(volume), grid, Stopwatch(self._session.sync))
        return stitcher.logits()

    def _grid(self, volume: Tensor) -> Grid:
        x, y, z = volume.shape
        return self._way.grid((x, y, z))

    def _forward(self, volume: Tensor, grid: Grid, watch: Stopwatch) -> tuple[Stitcher, int | None]:
        stitcher, passes = self._way.stitcher(grid), Passes(self._session, self._recipe, self._device, watch)
        passes.run(volume, grid.boxes, stitcher.add)
        return stitcher, passes.device_ns()
