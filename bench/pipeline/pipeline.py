"""One case from file to file, timed stage by stage."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.space import spacing_of
from bench.data.volume import Volume
from bench.data.write import write_mask
from bench.errors import NotFiniteError
from bench.machine.clock import Event, EventStopwatch, Stopwatch
from bench.machine.host import physical_threads
from bench.machine.side_stream import MOST_READERS, Handover, SideStream
from bench.pipeline.finite import of_case
from bench.pipeline.merge import Merger
from bench.pipeline.preparation import preparation_of
from bench.pipeline.region import Geometry
from bench.pipeline.roi import STRATEGIES, choose_region
from bench.pipeline.settings import CaseClass, CaseTiming, InferenceSettings
from bench.pipeline.tile_runner import LogitsSink, TileRunner, traced
from bench.pipeline.tiles import Box, Grid, triple
from engines.base import ClassCheck, Session, class_check_of, has_own_threads
from reports.records.record import Roi


@dataclass(frozen=True)
class Prepared:
    """A case that waits for the network.

    Attributes:
        geometry: what brings its labels back onto the image's grid.
        grid: the tiles.
        volume: ``[C, D, H, W]`` float32, padded to at least one tile.
    """

    geometry: Geometry
    grid: Grid
    volume: Tensor


@dataclass(frozen=True)
class Ahead:
    """A case that was read ahead.

    Attributes:
        stages_ns: that are behind it, by the host's clock.
        started_ns: when its reading began.
        handover: of what lies on a GPU, to the stream of the network.
    """

    case: Prepared | Volume
    stages_ns: dict[str, int]
    started_ns: int
    handover: Handover

    def taken(self) -> Prepared | Volume:
        """The case, for the stream that is current."""
        on_device = self.case.volume if isinstance(self.case, Prepared) else self.case.intensities
        if isinstance(on_device, Tensor):
            self.handover.take(on_device)
        return self.case


@dataclass(frozen=True)
class Labelled:
    """A case that waits to be written: its labels on the image's grid, and what else the network gave.

    Attributes:
        names: of labels.
    """

    nifti: Any
    labels: NDArray[np.uint8]
    names: Mapping[int, str]
    case_class: CaseClass | None
    tiles: int
    device_ns: int | None
    roi: Roi | None
    class_checked: bool

    def timing(self, case_ns: int, stages_ns: dict[str, int]) -> CaseTiming:
        """Of the case, now that its mask is on disk."""
        return CaseTiming(
            subtype=None if self.case_class is None else self.case_class.number,
            tiles=self.tiles,
            case_ns=case_ns,
            stages_ns=stages_ns,
            device_ns=self.device_ns,
            roi=self.roi,
            class_checked=self.class_checked,
        )


class _ClassesAlone:
    """Stands for the `session` where a class is checked: its segmentation is of no class."""

    def __init__(self, check: ClassCheck, session: Session) -> None:
        self._check = check
        self.own_threads = has_own_threads(session)

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :0], self._check.infer(x)


class Pipeline:
    """Runs cases through a session.

    Memory of a case at its peak, in bytes for each voxel of the region, C being the network's classes: 4 a channel for
    the prepared volume and 4 C for the sums of logits while tiles run, then 2 more for the labels in both orders of the
    axes; 18 with three classes. Reading takes 4 and what the file holds (2 for int16) beside the packed file, preparing
    8. A volume that is shorter than a tile takes 4 more until it is padded.
    """

    def __init__(self, session: Session, settings: InferenceSettings, device: str = "cpu") -> None:
        self._session = session
        self._class_check = class_check_of(session)
        self._settings = settings
        self._device = torch.device(device)
        self._preprocessor, self._tiling = preparation_of(settings, self._device)
        self._strategy = STRATEGIES[settings.roi]
        self._side = SideStream(self._device)
        self._threads = torch.get_num_threads() if has_own_threads(session) else None

    @property
    def readers(self) -> int:
        """Threads that may read ahead: one on a CPU, whose cores are the network's, and where a library prepares."""
        library = self._settings.plans is not None or self._settings.bundle is not None
        return 1 if library or self._device.type == "cpu" else min(MOST_READERS, physical_threads())

    def run(self, image_paths: Sequence[Path], mask_path: Path) -> CaseTiming:
        """Predict the case whose channels are in `image_paths`, write its mask to `mask_path`, and time both.

        Raises:
            InputError: the image cannot be read, or the mask not be written.
            NotFiniteError: logits, or their sums, are NaN or infinite.
        """
        watch = self.stopwatch({})
        start = time.perf_counter_ns()
        labelled = self.label(self.prepare(image_paths, watch), watch)
        self._session.sync()  # whatever it has launched elsewhere is part of the case
        with watch.stage("write"):
            write_mask(mask_path, labelled.labels, labelled.nifti, labelled.names)
        return labelled.timing(time.perf_counter_ns() - start, watch.stages_ns)

    def stopwatch(self, stages_ns: dict[str, int]) -> Stopwatch:
        """One of what is done on the device; `stages_ns` are behind a case already."""
        watch = Stopwatch(self._session.sync) if self._device.type == "cpu" else EventStopwatch(self._recorded)
        watch.stages_ns |= stages_ns
        return watch

    def _recorded(self) -> Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def prepare_ahead(self, image_paths: Sequence[Path]) -> Ahead:
        """Read a case and make it ready in another thread than the one that labels, beside what the network has.

        Raises:
            InputError: it cannot be read.
        """
        started, watch = time.perf_counter_ns(), Stopwatch(lambda: None)
        with self._side.work() as handover:
            case = self.prepare(image_paths, watch)
        return Ahead(case, watch.stages_ns, started, handover)

    def prepare(self, image_paths: Sequence[Path], watch: Stopwatch) -> Prepared | Volume:
        """Read a case and make it ready for the network; a volume still needs the session to find its region.

        Raises:
            InputError: it cannot be read.
        """
        self._take_threads()
        with watch.stage("read"):
            volume = self._preprocessor.read(image_paths)
        return volume if self._strategy.needs_network else self._crop(volume, None, watch)

    def label(self, waiting: Prepared | Volume, watch: Stopwatch) -> Labelled:
        """Run the network over a case and merge the logits of its tiles.

        Raises:
            NotFiniteError: logits, or their sums, are NaN or infinite; names the case and the share of its tiles.
        """
        self._take_threads()
        nifti = waiting.nifti if isinstance(waiting, Volume) else waiting.geometry.nifti
        with of_case(nifti.get_filename()):
            runner = TileRunner(self._session, self._settings, self._device, watch)
            prepared = self._crop(waiting, runner, watch) if isinstance(waiting, Volume) else waiting
            del waiting
            with watch.stage("preprocess", device=True):
                volume = prepared.volume.to(self._device)
            merger = self._merger(prepared)
            geometry, boxes = self._select(prepared, volume, merger, runner, watch)
            try:
                runner.run(volume, boxes, merger.aggregate)
                with watch.stage("stitch", device=True):
                    labels = self._preprocessor.restore(geometry, merger)
                case_class, checked = self._case_class(merger, volume, watch)
            except NotFiniteError as error:
                all_boxes = merger.boxes + boxes[len(merger.boxes) :] if merger.receiver else merger.boxes
                raise traced(error, partial(runner.run, volume), all_boxes, self._settings.subtypes > 0) from None
            watch.settle()
            roi = None if self._settings.roi == "none" else geometry.region.record()
            names = dict(self._settings.names)
            return Labelled(
                nifti=geometry.nifti,
                labels=labels,
                names=names,
                case_class=case_class,
                tiles=runner.tiles,
                device_ns=watch.stages_ns["forward"] if self._device.type == "cuda" else None,
                roi=roi,
                class_checked=checked,
            )

    def _take_threads(self) -> None:
        """In a thread that began while another one of this process had `one_thread`, there would be one for ever."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)

    def _case_class(self, merger: Merger, volume: Tensor, watch: Stopwatch) -> tuple[CaseClass | None, bool]:
        """The class, if the network gives any, and whether it was uncertain and is that of logits in FP32."""
        if not self._settings.subtypes:
            return None, False
        with watch.stage("stitch", device=True):
            case_class = merger.case_class()
        check = self._class_check
        if check is None or case_class.lead >= check.lead:
            return case_class, False
        logits = list[Tensor]()
        runner = TileRunner(_ClassesAlone(check, self._session), self._settings, self._device, watch)
        runner.run(volume, merger.boxes, lambda _boxes, _segmentation, classes: logits.append(classes.clone()))
        return merger.case_class(torch.cat(logits)), True

    def _crop(self, volume: Volume, runner: TileRunner | None, watch: Stopwatch) -> Prepared:
        with watch.stage("roi", device=runner is not None):
            region = choose_region(volume, self._settings, runner)
        with watch.stage("preprocess", device=True):
            prepared, _ = self._preprocessor.prepare(volume.cropped(region.box))
            grid = self._tiling.grid(triple(prepared.shape[1:]))
            return Prepared(Geometry(volume.nifti, region, volume.properties), grid, grid.pad(prepared))

    def _merger(self, prepared: Prepared) -> Merger:
        """What adds up its tiles; their logits go to a receiver where all tiles are run."""
        receiver = None
        if not self._strategy.leaves_out_tiles:
            receiver = self._preprocessor.receiver(prepared.geometry, prepared.grid)
        return self._tiling.merger(prepared.grid, receiver)

    def _select(
        self, prepared: Prepared, volume: Tensor, merger: Merger, runner: TileRunner, watch: Stopwatch
    ) -> tuple[Geometry, list[Box]]:
        """What a strategy chooses of a region, and the tiles that are still to be run."""
        geometry, grid = prepared.geometry, prepared.grid

        def run(boxes: list[Box], on_logits: LogitsSink) -> None:
            runner.run(volume, boxes, on_logits, stage="roi")

        def on_logits(boxes: list[Box], segmentation: Tensor, classification: Tensor) -> None:
            with watch.stage("stitch", device=True):
                merger.aggregate(boxes, segmentation, classification)

        with watch.stage("roi", device=True):
            spacing_mm = spacing_of(geometry.nifti.affine)
            region, boxes = self._strategy.select(geometry.region, grid, self._settings, spacing_mm, run, on_logits)
        return replace(geometry, region=region), boxes
