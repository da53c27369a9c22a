"""A case's way to a network of nnU-Net and back, by nnU-Net's own operations.

The volume's axes are those of nnU-Net's readers (z, y, x of a NIfTI file), transposed as the plans say.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.volume import MaskValues, Volume, open_channels, read_mask, refuse_apart
from bench.errors import InputError
from bench.pipeline.merge import Merger, Receiver
from bench.pipeline.nnunet.reader import Reader
from bench.pipeline.region import Geometry
from bench.pipeline.settings import Forecast
from bench.pipeline.tiles import Grid, Shape, triple
from models.errors import one_line
from models.model import Plans
from models.suppress import suppress_output

_MOST_VOXELS = 2**31  # at the plans' spacing: larger than any CT, and perhaps too large for this machine


class OfficialPreprocessor:
    """Prepares cases, and puts predictions back onto their images' grids, as nnU-Net's plans say.

    Its volumes are as nnU-Net's readers give them, ``[z, y, x]``, and always whole.
    """

    def __init__(self, plans: Plans) -> None:
        with suppress_output():
            from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

            self._plans = PlansManager(dict(plans.plans))
            self._configuration = self._plans.get_configuration(plans.configuration)
            self._label_manager = self._plans.get_label_manager(dict(plans.dataset))
            self._reader = Reader(self._plans)
        self._preprocessor = DefaultPreprocessor(verbose=False)
        self._dataset = dict(plans.dataset)
        self._channels = len(plans.dataset["channel_names"])

    def read(self, image_paths: Sequence[Path]) -> Volume:
        niftis = open_channels(image_paths)
        refuse_apart(image_paths, niftis)
        data, properties = self._reader.read(image_paths, niftis)
        return Volume(data, niftis[0], properties)

    def read_mask(self, mask_path: Path, volume: Volume, values: MaskValues) -> NDArray[np.float32]:
        labels = read_mask(mask_path, volume.space, values)
        return self._reader.as_read(labels, volume.nifti.affine).astype(np.float32)

    def prepare(self, volume: Volume, labels: NDArray[Any] | None = None) -> tuple[Tensor, Tensor | None]:
        """Transpose, crop to what is not zero, normalise, and resample to the plans' spacing."""
        self._refuse_huge(volume)
        sides, spacing_mm = triple(volume.intensities.shape[:0:-1]), volume.properties["spacing"][::-1]
        refuse_thin(volume, self._planned(sides, spacing_mm), self._plans_mm)
        seg = None if labels is None else labels[None]
        with not_taken_reported(volume):
            data, seg, _ = self._preprocessor.run_case_npy(
                np.asarray(volume.intensities), seg, volume.properties, self._plans, self._configuration, self._dataset
            )
        prepared = torch.from_numpy(data).to(torch.float32)
        return prepared, None if labels is None else torch.from_numpy(seg[0]).clamp(min=0)  # -1 is outside the crop

    def forecast(self, shape: Shape, spacing_mm: Sequence[float]) -> Forecast | None:
        """Images are resampled in float64, and logits of all classes are kept on both grids."""
        prepared, own = self._planned(shape, spacing_mm), math.prod(shape)
        channels, classes = self._channels, self._label_manager.num_segmentation_heads
        preparing = 4 * channels * (2 * own + math.prod(prepared)) + 8 * (own + math.prod(prepared))
        resampled = 0 if math.prod(prepared) == own else 2 * classes * own + 16 * own
        return Forecast(prepared, preparing, (), resampled + 9 * own)  # argmax gives numbers of eight bytes

    @property
    def _plans_mm(self) -> list[float]:
        spacing: list[float] = self._configuration.spacing
        return spacing

    def _planned(self, shape: Shape, spacing_mm: Sequence[float]) -> Shape:
        """The shape at the plans' spacing, of an image whose axes are as stored, by nnU-Net's own rounding."""
        from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

        forward = self._plans.transpose_forward
        old, old_mm = ([values[2 - axis] for axis in forward] for values in (shape, spacing_mm))
        return triple(int(n) for n in compute_new_shape(old, old_mm, self._configuration.spacing))

    def receiver(self, geometry: Geometry, grid: Grid) -> Receiver | None:  # noqa: ARG002
        return None

    def restore(self, geometry: Geometry, merger: Merger) -> NDArray[np.uint8]:
        """Resample logits to the image's spacing, take labels of them as nnU-Net does, undo crop and transpositions."""
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        labels = convert_predicted_logits_to_segmentation_with_correct_shape(
            merger.finalize().cpu(),
            self._plans,
            self._configuration,
            self._label_manager,
            geometry.properties,
            num_threads_torch=torch.get_num_threads(),
        )
        return self._reader.as_stored(labels.astype(np.uint8, copy=False), geometry.nifti.affine)

    def _refuse_huge(self, volume: Volume) -> None:
        old = [volume.properties["spacing"][axis] for axis in self._plans.transpose_forward]
        voxels = math.prod(volume.intensities.shape[1:]) * np.prod(np.divide(old, self._configuration.spacing))
        if voxels > _MOST_VOXELS:
            raise InputError(
                f"{volume.nifti.get_filename()}: {voxels:.1e} voxels at the plans' spacing of "
                f"{' x '.join(map(str, self._configuration.spacing))} mm; check the spacing in its header"
            )


def refuse_thin(volume: Volume, planned: Sequence[int], spacing_mm: Sequence[float]) -> None:
    """Refuse a volume of which nothing is left at the plans' spacing.

    Raises:
        InputError: so it is.
    """
    if not all(planned):
        raise InputError(
            f"{volume.nifti.get_filename()}: too thin for the plans' spacing of "
            f"{' x '.join(map(str, spacing_mm))} mm, at which no voxel is left of it; give a whole volume"
        )


@contextmanager
def not_taken_reported(volume: Volume) -> Iterator[None]:
    """Name the image that one of nnU-Net's normalisations does not take.

    Raises:
        InputError: so one does not.
    """
    try:
        yield
    except AssertionError as error:  # as of RGB, whose values must lie between 0 and 255
        raise InputError(
            f"{volume.nifti.get_filename()}: nnU-Net's preprocessing does not take it ({one_line(error)}); give images "
            "of the kind that it was trained on"
        ) from None
