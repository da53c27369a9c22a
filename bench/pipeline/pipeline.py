"""One case from file to file, timed stage by stage."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
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
        start = time.perf_counter_ns()
        with watch.stage("read"):
            case = self._way.read(image)
        with watch.stage("roi"):
            region = self._way.region(case)
        with watch.stage("preprocess", device=True):
            prepared = self._way.prepare(case, region)[0].to(self._device)
            grid = self._grid(prepared)
            padded = grid.pad(prepared)
        stitcher, device_ns = self._forward(padded, grid, watch)
        with watch.stage("stitch", device=True):
            labels = self._way.labels(case, region, stitcher)
            subtype = stitcher.subtype() if self._recipe.subtypes else None
        with watch.stage("write"):
            write_mask(mask, labels, case.image)
        case_ns = time.perf_counter_ns() - start
        return Outcome(subtype, len(grid.starts), case_ns, watch.stages_ns, device_ns)

    def logits(self, volume: Tensor) -> Tensor:
        """Whole-volume logits ``[C, D, H, W]`` of a prepared ``[D, H, W]`` volume."""
        grid = self._grid(volume)
        stitcher, _ = self._forward(grid.pad(volume), grid, Stopwatch(self._session.sync))
        return stitcher.logits()

    def _grid(self, volume: Tensor) -> Grid:
        x, y, z = volume.shape
        return self._way.grid((x, y, z))

    @torch.inference_mode()
    def _forward(self, volume: Tensor, grid: Grid, watch: Stopwatch) -> tuple[Stitcher, int | None]:
        stitcher, boxes, batch = self._way.stitcher(grid), grid.boxes, self._recipe.batch
        events = DeviceClock(self._device)
        for first in range(0, len(boxes), batch):
            some = boxes[first : first + batch]
            with watch.stage("stitch", device=True):
                x = self._cut(volume, some)
            with watch.stage("forward", device=True), events.span():
                segmentation, classification = self._session.infer(x)
            with watch.stage("stitch", device=True):
                stitcher.add(some, segmentation[: len(some)], classification[: len(some)])
        return stitcher, events.elapsed_ns()

    def _cut(self, volume: Tensor, boxes: list[Box]) -> Tensor:
        # x: [batch, 1, D, H, W]. Engines are built for one batch size, so the last batch repeats its last tile.
        filled = boxes + boxes[-1:] * (self._recipe.batch - len(boxes))
        return torch.stack([volume[box] for box in filled])[:, None]
