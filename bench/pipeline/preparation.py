"""A volume's way to the network and back onto its image's grid, and its tiles: as stored in the file, tiled as MONAI
does, or both as nnU-Net or a MONAI bundle does.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data import blocks
from bench.data.volume import MaskValues, Volume, read_image, read_mask
from bench.pipeline import tiles
from bench.pipeline.label_map import Labels
from bench.pipeline.merge import WHOLE_BYTES, Merger, Receiver, most_held
from bench.pipeline.preprocess import normalise, read_onto
from bench.pipeline.region import Geometry, full_box, shifted
from bench.pipeline.settings import Forecast, InferenceSettings
from bench.pipeline.tiles import Grid, Shape
from reports.records.record import Case


class Preprocessor(Protocol):
    """What is done to a case before and after its tiles."""

    def read(self, image_paths: Sequence[Path]) -> Volume:
        """Read the channels of a case.

        Raises:
            InputError: it cannot be used.
        """
        ...

    def read_mask(self, mask_path: Path, volume: Volume, values: MaskValues) -> NDArray[Any]:
        """Read the mask of a volume, axes likewise.

        Raises:
            InputError: it cannot be used, or lies elsewhere.
        """
        ...

    def prepare(self, volume: Volume, labels: NDArray[Any] | None = None) -> tuple[Tensor, Tensor | None]:
        """The volume as the network was trained to see it, ``[C, D, H, W]`` float32, and its `labels` ``[D, H, W]``.

        The volume may lie on the device already; the labels never do.

        Raises:
            InputError: it cannot be used.
        """
        ...

    def forecast(self, shape: Shape, spacing_mm: Sequence[float]) -> Forecast | None:
        """Of an image of `shape` and spacing, axes as stored; None where a library's transforms would have to tell."""
        ...

    def receiver(self, geometry: Geometry, grid: Grid) -> Receiver | None:
        """What takes the logits of the tiles of `grid` while they come; None where `restore` takes all at once."""
        ...

    def restore(self, geometry: Geometry, merger: Merger) -> NDArray[np.uint8]:
        """The mask on the grid of the image that `geometry` is of, axes as stored; its first axis is contiguous."""
        ...


class Tiling(Protocol):
    """Where the tiles of a prepared volume lie, and how their logits are merged.

    Attributes:
        precision: of the sums.
    """

    @property
    def precision(self) -> torch.dtype: ...

    def grid(self, shape: Shape) -> Grid:
        """The tiles of a prepared volume."""
        ...

    def merger(self, grid: Grid, receiver: Receiver | None = None) -> Merger:
        """An empty sum of their logits, which go to `receiver`."""
        ...


class WindowPreprocessor:
    """Axes and spacing as stored in the file; intensities through a window."""

    def __init__(self, settings: InferenceSettings, device: torch.device) -> None:
        self._settings = settings
        self._device = device

    def read(self, image_paths: Sequence[Path]) -> Volume:
        return read_image(image_paths) if self._device.type == "cpu" else read_onto(image_paths, self._device)

    def read_mask(self, mask_path: Path, volume: Volume, values: MaskValues) -> NDArray[np.uint8]:
        return read_mask(mask_path, volume.space, values)

    def prepare(self, volume: Volume, labels: NDArray[Any] | None = None) -> tuple[Tensor, Tensor | None]:
        prepared = normalise(torch.as_tensor(volume.intensities).to(self._device), self._settings.window)
        return prepared, None if labels is None else torch.from_numpy(labels)

    def forecast(self, shape: Shape, spacing_mm: Sequence[float]) -> Forecast | None:  # noqa: ARG002
        voxels, channels = math.prod(shape), self._settings.channels
        return Forecast(shape, (4 * channels + max(2, 4 * channels)) * voxels, self._cuts(shape), 2 * voxels)

    def _cuts(self, shape: Shape) -> tuple[int, ...]:
        """Small volumes are labelled as a whole, and those of which only some tiles are run."""
        sums = math.prod(shape) * len(self._settings.labels) * torch.float32.itemsize
        return Labels.cuts if sums > WHOLE_BYTES and self._settings.roi != "foreground" else ()

    def receiver(self, geometry: Geometry, grid: Grid) -> Receiver | None:  # noqa: ARG002
        if not self._cuts(grid.padded):
            return None
        # Of zeros, the background: by the protocol of a patch most of the volume is in no tile.
        return Labels(self._settings.classes, torch.zeros(grid.shape, dtype=torch.uint8, device=self._device))

    def restore(self, geometry: Geometry, merger: Merger) -> NDArray[np.uint8]:
        of_device = merger.receiver.out if isinstance(merger.receiver, Labels) else merger.labels()
        of_region, corner = _on_host(of_device), geometry.region.corner
        if of_region.flags.f_contiguous and geometry.region.kept == (full_box(geometry.nifti.shape),):
            return of_region
        labels = np.zeros(geometry.nifti.shape, np.uint8, order="F")  # as it will be written
        for box in geometry.region.kept:
            blocks.copy(of_region[shifted(box, tuple(-at for at in corner))], labels[box])
        return labels


class MonaiTiling:
    """The tiles of MONAI's sliding window or the centre patch, and MONAI's Gaussian weights."""

    def __init__(self, settings: InferenceSettings, device: torch.device) -> None:
        self._settings = settings
        self._weights = tiles.gaussian_weights(settings.tile).to(device)
        self.precision = self._weights.dtype

    def grid(self, shape: Shape) -> Grid:
        if self._settings.protocol == "center-patch":
            return tiles.center_patch(shape, self._settings.tile)
        return tiles.sliding_window(shape, self._settings.tile, self._settings.overlap)

    def merger(self, grid: Grid, receiver: Receiver | None = None) -> Merger:
        return Merger(grid, self._weights, self._settings, receiver)


def _on_host(labels: Tensor) -> NDArray[np.uint8]:
    """Labels as an array; those on a device are first laid out there as they will be written, which takes no time."""
    if labels.device.type == "cpu":
        return np.asarray(labels)
    as_written = labels.permute(2, 1, 0).contiguous()
    on_host = torch.empty(as_written.shape, dtype=as_written.dtype, pin_memory=True).copy_(as_written)
    return np.asarray(on_host).transpose(2, 1, 0)


def case_bytes(settings: InferenceSettings, shape: Shape, spacing_mm: Sequence[float]) -> int | None:
    """Bytes of memory that a case takes at most, beside the network's own layers; None where nothing tells.

    All of the volume is counted, although nnU-Net crops what is zero, and packed files are not. Each network of an
    ensemble keeps its logits of a batch, beside what is made of them; with mirroring there are two tiles more.
    """
    preprocessor, tiling = preparation_of(settings, torch.device("cpu"))
    forecast = preprocessor.forecast(shape, spacing_mm)
    if forecast is None:
        return None
    grid, classes = tiling.grid(forecast.prepared), len(settings.labels)
    sums = most_held(grid, forecast.cuts) * classes * tiling.precision.itemsize * settings.merged_apart
    held = settings.batch * (settings.networks + 1 if settings.networks > 1 else 1) + (2 if settings.mirror_axes else 0)
    logits = math.prod(settings.tile) * classes * held * torch.float32.itemsize
    volume = math.prod(grid.padded) * settings.channels * torch.float32.itemsize
    return max(forecast.preparing, volume + sums + logits + forecast.labelling)


def largest_case(settings: InferenceSettings, cases: Sequence[Case]) -> tuple[str, int]:
    """The case of these that takes most by `case_bytes`, and how much; 0 where nothing tells."""
    by_voxels = max(cases, key=lambda case: math.prod(case.shape))
    by_mm = max(cases, key=lambda case: math.prod(case.shape) * math.prod(case.spacing_mm))  # if it is resampled
    largest = {case.name: case for case in (by_voxels, by_mm)}.values()  # most often one and the same
    needs = {case.name: case_bytes(settings, tiles.triple(case.shape), case.spacing_mm) or 0 for case in largest}
    return max(needs.items(), key=lambda need: need[1])


def preparation_of(settings: InferenceSettings, device: torch.device) -> tuple[Preprocessor, Tiling]:
    """How a case is prepared and tiled by `settings`; sums of logits are on `device`."""
    if settings.bundle is not None:
        from bench.pipeline.bundle.preparation import BundlePreprocessor, BundleTiling

        return BundlePreprocessor(settings.bundle, settings), BundleTiling(settings.bundle, settings, device)
    if settings.plans is None:
        return WindowPreprocessor(settings, device), MonaiTiling(settings, device)
    from bench.pipeline.nnunet.official import OfficialPreprocessor
    from bench.pipeline.nnunet.preparation import PlansPreprocessor, covered
    from bench.pipeline.nnunet.tiling import NnUNetTiling

    tiling = NnUNetTiling(settings, device)
    if settings.official or not covered(settings.plans):
        return OfficialPreprocessor(settings.plans), tiling
    return PlansPreprocessor(settings.plans, settings.classes, device), tiling
