"""A case's way to a network of nnU-Net and back on tensors, equal to nnU-Net's own.

Transpositions, crop, normalisation and labels without resampling are equal bit by bit; resampled intensities differ
from nnU-Net's by rounding, at most 1e-6 of the largest, so that labels differ where two classes are as near as that.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.volume import Volume, open_channels, refuse_apart
from bench.pipeline.label_map import SIDE, Labels, ResampledLabels
from bench.pipeline.merge import Merger, Receiver
from bench.pipeline.nnunet.official import OfficialPreprocessor, not_taken_reported, refuse_thin
from bench.pipeline.nnunet.resampling import Resampling
from bench.pipeline.region import Geometry, full_box
from bench.pipeline.settings import Classes, Forecast
from bench.pipeline.tiles import Box, Grid, Shape
from models.model import Plans


def covered(plans: Plans) -> bool:
    """Whether the way back is one of means of neighbours; splines of a higher order are left to nnU-Net."""
    return Resampling(plans.plans["configurations"][plans.configuration], "probabilities").means


class PlansPreprocessor(OfficialPreprocessor):
    """Prepares cases, and labels the logits of their tiles as these come.

    Calibration, whose masks go the same way, is left to nnU-Net's own functions: it is not timed.
    """

    def __init__(self, plans: Plans, classes: Classes, device: torch.device) -> None:
        """Of plans that are `covered`."""
        super().__init__(plans)
        self._classes = classes
        self._device = device
        configuration = plans.plans["configurations"][plans.configuration]
        self._of_images = Resampling(configuration, "data")
        self._of_logits = Resampling(configuration, "probabilities")
        self._normalisers = _normalisers(plans.plans, configuration)
        self._uses_mask = [bool(used) for used in configuration["use_mask_for_norm"]]

    def read(self, image_paths: Sequence[Path]) -> Volume:
        niftis = open_channels(image_paths)
        refuse_apart(image_paths, niftis)
        data, properties = self._reader.read_quickly(image_paths, niftis)
        return Volume(data, niftis[0], properties)

    def prepare(self, volume: Volume, labels: NDArray[Any] | None = None) -> tuple[Tensor, Tensor | None]:
        if labels is not None:
            return super().prepare(volume, labels)
        self._refuse_huge(volume)
        properties = volume.properties
        turned = np.asarray(volume.intensities).transpose(0, *(axis + 1 for axis in self._plans.transpose_forward))
        box, inside = _not_zero(turned, any(self._uses_mask))
        cropped = np.array(turned[(slice(None), *box)], np.float32, order="C")  # a copy: it is normalised in place
        properties["shape_before_cropping"] = turned.shape[1:]
        properties["bbox_used_for_cropping"] = [[side.start, side.stop] for side in box]
        properties["shape_after_cropping_and_before_resampling"] = cropped.shape[1:]
        del turned
        with not_taken_reported(volume):
            for number, (channel, normaliser) in enumerate(zip(cropped, self._normalisers, strict=True)):
                cropped[number] = normaliser.run(channel, inside)
        prepared = torch.from_numpy(cropped).to(self._device)
        shape, old_mm = self._planned_shape(properties), self._spacing(properties)
        refuse_thin(volume, shape, self._plans_mm)
        return self._of_images.images(prepared, shape, old_mm, self._configuration.spacing), None

    def forecast(self, shape: Shape, spacing_mm: Sequence[float]) -> Forecast | None:
        """One channel at a time is resampled in float64, slice by slice, before that is done between slices."""
        prepared, own = self._planned(shape, spacing_mm), math.prod(shape)
        new = math.prod(prepared)
        same = prepared == tuple(shape[2 - axis] for axis in self._plans.transpose_forward)
        slices = 0 if same else 8 * new // max(prepared[0], 1) * shape[2 - self._plans.transpose_forward[0]]
        preparing = 4 * self._channels * (2 * own + (0 if same else new)) + slices
        of_corners = 0 if same else 4 * len(self._classes.labels) * (SIDE + 1) * prepared[1] * prepared[2]
        cuts = Labels.cuts if same else ResampledLabels.cuts
        return Forecast(prepared, preparing, cuts, 2 * own + of_corners)

    def receiver(self, geometry: Geometry, grid: Grid) -> Receiver | None:
        properties = geometry.properties
        new = tuple(properties["shape_after_cropping_and_before_resampling"])
        out = torch.empty(new, dtype=torch.uint8)
        spacings = self._configuration.spacing, self._spacing(properties)
        maps, _ = self._of_logits.maps(grid.shape, new, *spacings)
        if all(each.matrix is None for each in maps):
            return Labels(self._classes, out)
        return ResampledLabels(maps, self._classes, torch.float16 if self._of_logits.rounds else torch.float32, out)

    def restore(self, geometry: Geometry, merger: Merger) -> NDArray[np.uint8]:
        receiver: Any = merger.receiver  # of `receiver`
        labels = np.zeros(geometry.properties["shape_before_cropping"], np.uint8)
        box = geometry.properties["bbox_used_for_cropping"]
        labels[tuple(slice(*side) for side in box)] = receiver.out.numpy()
        return self._reader.as_stored(labels.transpose(self._plans.transpose_backward), geometry.nifti.affine)

    def _spacing(self, properties: Mapping[str, Any]) -> list[float]:
        """Of the image, in mm, its axes transposed as the plans say."""
        return [properties["spacing"][axis] for axis in self._plans.transpose_forward]

    def _planned_shape(self, properties: Mapping[str, Any]) -> tuple[int, ...]:
        from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

        old = properties["shape_after_cropping_and_before_resampling"]
        new = compute_new_shape(old, self._spacing(properties), self._configuration.spacing)
        return tuple(int(length) for length in new)


def _normalisers(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> list[Any]:
    """nnU-Net's own, one for each channel: they take hardly any of the time, and give its very numbers."""
    from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes

    statistics = plans["foreground_intensity_properties_per_channel"]
    return [
        getattr(schemes, name)(use_mask_for_norm=used, intensityproperties=statistics[str(channel)])
        for channel, (name, used) in enumerate(
            zip(configuration["normalization_schemes"], configuration["use_mask_for_norm"], strict=True)
        )
    ]


def _not_zero(channels: NDArray[np.float32], wants_mask: bool) -> tuple[Box, NDArray[np.int8] | None]:
    """The box of what is not zero in any channel, all of the volume where there is none; and in it -1 outside.

    As of nnU-Net's `crop_to_nonzero`: holes count as inside. They change no box, so they are only filled where a
    normalisation asks for it.
    """
    mask = torch.from_numpy(channels[0] != 0)
    for channel in channels[1:]:
        mask |= torch.from_numpy(channel != 0)
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = torch.nonzero(mask.any(others)).flatten()
        if not len(used):
            sides = list(full_box(tuple(mask.shape)))
            break
        sides.append(slice(int(used[0]), int(used[-1]) + 1))
    box: Box = (sides[0], sides[1], sides[2])
    if not wants_mask:
        return box, None
    return box, np.where(_filled(mask[box].numpy()), np.int8(0), np.int8(-1))


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`scipy.ndimage.binary_fill_holes`, which spreads from the border step by step, by connected components."""
    from scipy import ndimage

    around = np.pad(~mask, 1, constant_values=True)
    pieces, _ = ndimage.label(around)
    inner = pieces[1:-1, 1:-1, 1:-1]
    return np.asarray(inner != pieces[0, 0, 0])
