"""One case from file to file, timed stage by stage."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.write import write_mask
from bench.machine.clock import Stopwatch
from bench.pipeline.merge import Stitcher
from bench.pipeline.preparation import preparation_of
from bench.pipeline.region import Region
from bench.pipeline.settings import CaseTiming, InferenceSettings
from bench.pipeline.tile_runner import Passes, Take
from bench.pipeline.tiles import Box, Grid
from engines.base import Session
from reports.records.record import Roi


@dataclass(frozen=True)
class Read:
    """A case as it was read, which waits for the network to tell where to crop it."""

    case: Any


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
    region: Region
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
    roi: Roi | None

    def outcome(self, case_ns: int, stages_ns: dict[str, int]) -> CaseTiming:
        """Of the case, now that its mask is on disk."""
        return CaseTiming(
            subtype=self.subtype,
            tiles=self.tiles,
            case_ns=case_ns,
            stages_ns=stages_ns,
            device_ns=self.device_ns,
            roi=self.roi,
        )


class Pipeline:
    """Runs cases through a session.

    Memory of a case at its peak, in bytes for each voxel of the region, C being the network's classes: 4 for the
    prepared volume and 4 C for the sums of logits while tiles run, then 2 more for the labels in both orders of the
    axes; 18 with three classes. Reading takes 4 and what the file holds (2 for int16) beside the packed file, preparing
    8. A volume that is shorter than a tile takes 4 more until it is padded.
    """

    def __init__(self, session: Session, settings: InferenceSettings, device: str = "cpu") -> None:
        self._session = session
        self._settings = settings
        self._device = torch.device(device)
        self._way = preparation_of(settings, self._device)

    def run(self, image_path: Path, mask_path: Path) -> CaseTiming:
        """Predict the case in `image_path`, write its mask to `mask_path`, and time both.

        Raises:
            InputError: the image cannot be read, or the mask not be written.
        """
        watch = self.stopwatch({})
        start = time.perf_counter_ns()
        labelled = self.label(self.prepare(image_path, watch), watch)
        with watch.stage("write"):
            write_mask(mask_path, labelled.labels, labelled.image)
        return labelled.outcome(time.perf_counter_ns() - start, watch.stages_ns)

    def stopwatch(self, stages_ns: dict[str, int]) -> Stopwatch:
        """One that waits for the device; `stages_ns` are behind a case already."""
        watch = Stopwatch(self._session.sync)
        watch.stages_ns |= stages_ns
        return watch

    def prepare(self, image_path: Path, watch: Stopwatch) -> Prepared | Read:
        """Read a case and make it ready for the network as far as that goes without the session.

        Raises:
            InputError: it cannot be read.
        """
        with watch.stage("read"):
            case = self._way.read(image_path)
        return Read(case) if self._way.asks_network else self._crop(case, None, watch)

    def label(self, waiting: Prepared | Read, watch: Stopwatch) -> Labelled:
        """Run the network over a case and stitch what it gives."""
        passes = Passes(self._session, self._settings, self._device, watch)
        prepared = self._crop(waiting.case, passes, watch) if isinstance(waiting, Read) else waiting
        del waiting
        region, stitcher = self._segment(prepared, passes, watch)
        with watch.stage("stitch", device=True):
            labels = self._way.labels(prepared.origin, region, stitcher)
            subtype = stitcher.subtype() if self._settings.subtypes else None
        roi = None if self._settings.roi == "none" else region.recorded()
        return Labelled(prepared.image, labels, subtype, passes.tiles, passes.device_ns(), roi)

    def _crop(self, case: Any, passes: Passes | None, watch: Stopwatch) -> Prepared:
        with watch.stage("roi", device=passes is not None):
            region = self._way.region(case, passes)
        with watch.stage("preprocess", device=True):
            volume = self._way.prepare(case, region)[0]
            grid = self._grid(volume)
            return Prepared(case.image, self._way.origin(case), region, grid, grid.pad(volume))

    def _segment(self, prepared: Prepared, passes: Passes, watch: Stopwatch) -> tuple[Region, Stitcher]:
        with watch.stage("preprocess", device=True):
            volume = prepared.volume.to(self._device)
        stitcher = self._way.stitcher(prepared.grid)

        def look(boxes: list[Box], take: Take) -> None:
            passes.run(volume, boxes, take, stage="roi")

        def add(boxes: list[Box], segmentation: Tensor, classification: Tensor) -> None:
            with watch.stage("stitch", device=True):
                stitcher.add(boxes, segmentation, classification)

        with watch.stage("roi", device=True):
            region, boxes = self._way.select(prepared.origin, prepared.region, prepared.grid, look, add)
        passes.run(volume, boxes, stitcher.add)
        return region, stitcher

    def logits(self, volume: Tensor) -> Tensor:
        """Whole-volume logits ``[C, D, H, W]`` of a prepared ``[D, H, W]`` volume, by all of its tiles."""
        grid = self._grid(volume)
        stitcher = self._way.stitcher(grid)
        passes = Passes(self._session, self._settings, self._device, self.stopwatch({}))
        passes.run(grid.pad(volume), grid.boxes, stitcher.add)
        return stitcher.logits()

    def _grid(self, volume: Tensor) -> Grid:
        x, y, z = volume.shape
        return self._way.grid((x, y, z))
