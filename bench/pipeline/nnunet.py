"""A case's way to a network of nnU-Net and back, by nnU-Net's own operations.

The volume's axes are those of nnU-Net's readers (z, y, x of a NIfTI file), transposed as the plans say; the grid and
the weights of tiles are those of its predictor (`nnunetv2.inference`) without mirroring.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel import orientations
from numpy.typing import NDArray
from torch import Tensor

from bench.data.volume import read_header
from bench.errors import InputError
from bench.pipeline import tiles
from bench.pipeline.merge import Stitcher
from bench.pipeline.region import Region, everything
from bench.pipeline.roi import Run
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tile_runner import Passes, Take
from bench.pipeline.tiles import Box, Grid, Shape
from models.model import Plans
from models.suppress import suppress_output

_MOST_VOXELS = 2**31  # at the plans' spacing: larger than any CT, and perhaps too large for this machine
_PEAK = 10  # of a tile's weights: the predictor's value_scaling_factor


@dataclass(frozen=True)
class Scan:
    """A case as nnU-Net's reader gives it.

    Attributes:
        data: ``[1, z, y, x]``, float32.
        properties: what nnU-Net notes about it; preprocessing adds what the way back needs.
        image: the nibabel image; its header and affine go into the predicted mask.
    """

    data: NDArray[np.float32]
    properties: dict[str, Any]
    image: Any


class ByPlans:
    """Prepares cases, and puts predictions back onto their images' grids, as nnU-Net's plans say."""

    asks_network = False

    def __init__(self, settings: InferenceSettings, plans: Plans, device: torch.device) -> None:
        with suppress_output():
            from nnunetv2.inference.sliding_window_prediction import compute_gaussian
            from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

            self._plans = PlansManager(dict(plans.plans))
            self._configuration = self._plans.get_configuration(plans.configuration)
            self._label_manager = self._plans.get_label_manager(dict(plans.dataset))
            self._reader = self._plans.image_reader_writer_class()
        self._preprocessor = DefaultPreprocessor(verbose=False)
        self._dataset = dict(plans.dataset)
        self._settings = settings
        self._weights = compute_gaussian(settings.tile, sigma_scale=1 / 8, value_scaling_factor=_PEAK, device=device)

    def read(self, path: Path) -> Scan:
        image = read_header(path)
        return Scan(*self._by_reader(path), image)

    def region(self, case: Scan, passes: Passes | None = None) -> Region:  # noqa: ARG002
        return Region.of(everything(case.data.shape[1:]))

    def select(self, case: Scan, region: Region, grid: Grid, run: Run, add: Take) -> tuple[Region, list[Box]]:  # noqa: ARG002
        return region, grid.boxes

    def prepare(self, case: Scan, region: Region, mask: Path | None = None) -> tuple[Tensor, Tensor | None]:  # noqa: ARG002
        """Transpose, crop to what is not zero, normalise, and resample to the plans' spacing."""
        self._refuse_huge(case)
        seg = None if mask is None else np.rint(self._by_reader(mask)[0])
        data, seg, _ = self._preprocessor.run_case_npy(
            case.data, seg, case.properties, self._plans, self._configuration, self._dataset
        )
        volume = torch.from_numpy(data[0]).to(torch.float32)
        return volume, None if mask is None else torch.from_numpy(seg[0]).clamp(min=0)  # -1 is outside the crop

    def grid(self, shape: Shape) -> Grid:
        """Tiles with a step of at most ``(1 - overlap) x tile``, the same all along an axis."""
        from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

        tile = self._settings.tile
        padded = tuple(max(n, side) for n, side in zip(shape, tile, strict=True))
        return tiles.grid_of(shape, tile, compute_steps_for_sliding_window(padded, tile, 1 - self._settings.overlap))

    def stitcher(self, grid: Grid) -> Stitcher:
        return HalfStitcher(grid, self._weights, self._settings.labels, self._settings.subtypes > 0)

    def origin(self, case: Scan) -> Scan:
        return replace(case, data=np.empty(0, np.float32))

    def labels(self, origin: Scan, region: Region, stitcher: Stitcher) -> NDArray[np.uint8]:  # noqa: ARG002
        """Resample the logits to the image's spacing, take the likeliest class, and undo crop and transpositions."""
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        classes = convert_predicted_logits_to_segmentation_with_correct_shape(
            stitcher.logits().cpu(), self._plans, self._configuration, self._label_manager, origin.properties,
            num_threads_torch=torch.get_num_threads(),
        )  # fmt: skip
        stored = np.array(self._settings.labels, np.uint8)[classes].transpose(2, 1, 0)
        if type(self._reader).__name__ == "NibabelIOWithReorient":
            stored = _as_oriented(stored, origin.image.affine)
        return np.asfortranarray(stored)  # as it will be written

    def _by_reader(self, path: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
        with _told(path, type(self._reader).__name__), suppress_output():
            data, properties = self._reader.read_images([str(path)])
        return data, properties

    def _refuse_huge(self, case: Scan) -> None:
        old = [case.properties["spacing"][axis] for axis in self._plans.transpose_forward]
        voxels = case.data.size * np.prod(np.divide(old, self._configuration.spacing))
        if voxels > _MOST_VOXELS:
            raise InputError(
                f"{case.image.get_filename()}: {voxels:.1e} voxels at the plans' spacing of "
                f"{' x '.join(map(str, self._configuration.spacing))} mm; check the spacing in its header"
            )


class HalfStitcher(Stitcher):
    """Adds tiles up in float16, as nnU-Net's predictor does, so that classes near a tie come out alike."""

    def _put(self, total: Tensor, logits: Tensor) -> None:
        total += logits * self._weights


def _as_oriented(ras: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Turn a volume in RAS orientation into that of an image with `affine`."""
    of: Any = orientations  # its functions carry no types
    turned: NDArray[np.uint8] = of.apply_orientation(
        ras, of.ornt_transform(of.axcodes2ornt("RAS"), of.io_orientation(affine))
    )
    return turned


@contextmanager
def _told(path: Path, reader: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ITK tells whatever it does not like in a RuntimeError of many lines
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise InputError(f"{path}: nnU-Net's {reader} cannot read it ({lines[-1][:200]}); export it again") from None
