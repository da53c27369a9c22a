"""A volume's way to the network and back onto its own grid: as stored in its file, or as nnU-Net's plans say."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data import blocks
from bench.data.volume import Volume, read_image, read_mask
from bench.pipeline import tiles
from bench.pipeline.merge import Stitcher
from bench.pipeline.preprocess import normalise
from bench.pipeline.region import Region, shifted
from bench.pipeline.roi import ROIS, Run
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tile_runner import Passes, Take
from bench.pipeline.tiles import Box, Grid, Shape


class Preparation(Protocol):
    """What is done to a case before and after its tiles; a case is whatever `read` returns, with its ``image``.

    Attributes:
        asks_network: whether `region` needs the network to find it.
    """

    asks_network: bool

    def read(self, path: Path) -> Any:
        """Read an image.

        Raises:
            InputError: it cannot be used.
        """
        ...

    def region(self, case: Any, passes: Passes | None = None) -> Region:
        """The part of the image that the network is run on; without `passes` none that needs the network to find."""
        ...

    def select(self, origin: Any, region: Region, grid: Grid, run: Run, add: Take) -> tuple[Region, list[Box]]:
        """The tiles of the region's grid that are to be run, after `bench.pipeline.roi.Strategy.select`."""
        ...

    def prepare(self, case: Any, region: Region, mask: Path | None = None) -> tuple[Tensor, Tensor | None]:
        """The region as the network was trained to see it, ``[D, H, W]`` float32, and its mask likewise.

        The region may lie on the device already; the mask never does.

        Raises:
            InputError: it cannot be used.
        """
        ...

    def grid(self, shape: Shape) -> Grid:
        """The tiles of a prepared volume."""
        ...

    def stitcher(self, grid: Grid) -> Stitcher:
        """What adds their logits up."""
        ...

    def origin(self, case: Any) -> Any:
        """What the way back needs of a case once it is prepared: not its voxels."""
        ...

    def labels(self, origin: Any, region: Region, stitcher: Stitcher) -> NDArray[np.uint8]:
        """The mask on the grid of the image that `origin` is of, axes as stored."""
        ...


class AsStored:
    """Axes and spacing as stored in the file; intensities through a window; tiles as MONAI lays them."""

    def __init__(self, settings: InferenceSettings, device: torch.device) -> None:
        self._settings = settings
        self._strategy = ROIS[settings.roi]
        self.asks_network = self._strategy.asks_network
        self._device = device
        self._weights = tiles.gaussian_weights(settings.tile).to(device)

    def read(self, path: Path) -> Volume:
        return read_image(path)

    def region(self, case: Volume, passes: Passes | None = None) -> Region:
        region = self._strategy.crop(case.intensities, case.image.header.get_zooms(), passes)
        return region.grown(
            tiles.filled(region.box, case.intensities.shape, self._settings.tile, self._settings.overlap)
        )

    def select(self, origin: Any, region: Region, grid: Grid, run: Run, add: Take) -> tuple[Region, list[Box]]:
        return self._strategy.select(region, grid, origin.header.get_zooms(), run, add)

    def prepare(self, case: Volume, region: Region, mask: Path | None = None) -> tuple[Tensor, Tensor | None]:
        inside = torch.from_numpy(case.intensities[region.box]).to(self._device)
        prepared = normalise(inside, self._settings.window)
        return prepared, None if mask is None else torch.from_numpy(read_mask(mask)[region.box])

    def grid(self, shape: Shape) -> Grid:
        return tiles.make_grid(self._settings.protocol, shape, self._settings.tile, self._settings.overlap)

    def stitcher(self, grid: Grid) -> Stitcher:
        return Stitcher(grid, self._weights, self._settings.labels, self._settings.subtypes > 0)

    def origin(self, case: Volume) -> Any:
        return case.image

    def labels(self, origin: Any, region: Region, stitcher: Stitcher) -> NDArray[np.uint8]:
        labels = np.zeros(origin.shape, np.uint8, order="F")  # as it will be written
        stitched = _on_host(stitcher.labels())
        for box in region.kept:
            blocks.copy(stitched[shifted(box, tuple(-at for at in region.corner))], labels[box])
        return labels


def _on_host(labels: Tensor) -> NDArray[np.uint8]:
    """Labels as an array; those on a device are first laid out there as they will be written, which takes no time."""
    if labels.device.type == "cpu":
        found: NDArray[np.uint8] = labels.numpy()
        return found
    return labels.permute(2, 1, 0).contiguous().cpu().numpy().transpose(2, 1, 0)


def preparation_of(settings: InferenceSettings, device: torch.device) -> Preparation:
    """How `settings` prepares a case; sums of logits are on `device`."""
    if settings.plans is None:
        return AsStored(settings, device)
    from bench.pipeline.nnunet import ByPlans

    return ByPlans(settings, settings.plans, device)
