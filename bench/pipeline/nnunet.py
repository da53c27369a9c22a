"""A case's way to a network of nnU-Net and back, by nnU-Net's own operations.

The volume's axes are those of nnU-Net's readers (z, y, x of a NIfTI file), transposed as the plans say; the grid and
the weights of tiles are those of its predictor (`nnunetv2.inference`) without mirroring.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel import orientations
from numpy.typing import NDArray
from torch import Tensor

from bench.data.volume import Volume, read_header
from bench.errors import InputError
from bench.pipeline import tiles
from bench.pipeline.merge import Merger
from bench.pipeline.region import Geometry
from bench.pipeline.settings import InferenceSettings
from bench.pipeline.tiles import Grid, Shape
from models.model import Plans
from models.suppress import suppress_output

_MOST_VOXELS = 2**31  # at the plans' spacing: larger than any CT, and perhaps too large for this machine
_PEAK = 10  # of a tile's weights: the predictor's value_scaling_factor


class PlansPreprocessor:
    """Prepares cases, and puts predictions back onto their images' grids, as nnU-Net's plans say.

    Its volumes are as nnU-Net's readers give them, ``[z, y, x]``, and always whole.
    """

    def __init__(self, plans: Plans, labels: tuple[int, ...]) -> None:
        with suppress_output():
            from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

            self._plans = PlansManager(dict(plans.plans))
            self._configuration = self._plans.get_configuration(plans.configuration)
            self._label_manager = self._plans.get_label_manager(dict(plans.dataset))
            self._reader = self._plans.image_reader_writer_class()
        self._preprocessor = DefaultPreprocessor(verbose=False)
        self._dataset = dict(plans.dataset)
        self._labels = labels

    def read(self, image_path: Path) -> Volume:
        nifti = read_header(image_path)
        data, properties = self._by_reader(image_path)
        return Volume(data[0], nifti, properties)

    def read_mask(self, mask_path: Path) -> NDArray[np.float32]:
        labels: NDArray[np.float32] = np.rint(self._by_reader(mask_path)[0][0])
        return labels

    def prepare(self, volume: Volume, labels: NDArray[Any] | None = None) -> tuple[Tensor, Tensor | None]:
        """Transpose, crop to what is not zero, normalise, and resample to the plans' spacing."""
        self._refuse_huge(volume)
        seg = None if labels is None else labels[None]
        data, seg, _ = self._preprocessor.run_case_npy(
            volume.intensities[None], seg, volume.properties, self._plans, self._configuration, self._dataset
        )
        prepared = torch.from_numpy(data[0]).to(torch.float32)
        return prepared, None if labels is None else torch.from_numpy(seg[0]).clamp(min=0)  # -1 is outside the crop

    def restore(self, geometry: Geometry, merger: Merger) -> NDArray[np.uint8]:
        """Resample the logits to the image's spacing, take the likeliest class, and undo crop and transpositions."""
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        classes = convert_predicted_logits_to_segmentation_with_correct_shape(
            merger.finalize().cpu(),
            self._plans,
            self._configuration,
            self._label_manager,
            geometry.properties,
            num_threads_torch=torch.get_num_threads(),
        )
        stored = np.array(self._labels, np.uint8)[classes].transpose(2, 1, 0)
        if type(self._reader).__name__ == "NibabelIOWithReorient":
            stored = _as_oriented(stored, geometry.nifti.affine)
        return np.asfortranarray(stored)  # as it will be written

    def _by_reader(self, path: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
        with _errors_shortened(path, type(self._reader).__name__), suppress_output():
            data, properties = self._reader.read_images([str(path)])
        return data, properties

    def _refuse_huge(self, volume: Volume) -> None:
        old = [volume.properties["spacing"][axis] for axis in self._plans.transpose_forward]
        voxels = volume.intensities.size * np.prod(np.divide(old, self._configuration.spacing))
        if voxels > _MOST_VOXELS:
            raise InputError(
                f"{volume.nifti.get_filename()}: {voxels:.1e} voxels at the plans' spacing of "
                f"{' x '.join(map(str, self._configuration.spacing))} mm; check the spacing in its header"
            )


class NnUNetTiling:
    """The tiles and the Gaussian weights of nnU-Net's predictor."""

    def __init__(self, settings: InferenceSettings, device: torch.device) -> None:
        with suppress_output():
            from nnunetv2.inference.sliding_window_prediction import compute_gaussian

        self._settings = settings
        self._weights = compute_gaussian(settings.tile, sigma_scale=1 / 8, value_scaling_factor=_PEAK, device=device)

    def grid(self, shape: Shape) -> Grid:
        """Tiles with a step of at most ``(1 - overlap) x tile``, the same all along an axis."""
        from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

        tile = self._settings.tile
        padded = tuple(max(n, side) for n, side in zip(shape, tile, strict=True))
        return tiles.grid_of(shape, tile, compute_steps_for_sliding_window(padded, tile, 1 - self._settings.overlap))

    def merger(self, grid: Grid) -> Merger:
        return HalfMerger(grid, self._weights, self._settings.labels, self._settings.subtypes > 0)


class HalfMerger(Merger):
    """Adds tiles up in float16, as nnU-Net's predictor does, so that classes near a tie come out alike."""

    def _add_tile(self, total: Tensor, logits: Tensor) -> None:
        total += logits * self._weights


def _as_oriented(ras: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Turn a volume in RAS orientation into that of an image with `affine`."""
    of: Any = orientations  # its functions carry no types
    turned: NDArray[np.uint8] = of.apply_orientation(
        ras, of.ornt_transform(of.axcodes2ornt("RAS"), of.io_orientation(affine))
    )
    return turned


@contextmanager
def _errors_shortened(path: Path, reader: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever ITK does not like is a RuntimeError of many lines
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise InputError(f"{path}: nnU-Net's {reader} cannot read it ({lines[-1][:200]}); export it again") from None
