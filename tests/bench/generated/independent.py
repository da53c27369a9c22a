"""What `bench run` must give, computed with other people's code: MONAI's window and metrics, SimpleITK's resampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from monai.inferers import sliding_window_inference
from monai.metrics import DiceMetric, SurfaceDiceMetric
from torch import Tensor

from tests.bench.generated.nifti import Array, spacing_of

# Of a network: [B, 1, D, H, W] to [B, classes, D, H, W] and [B, subtypes], or None without a classification.
Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Prediction:
    """What a network says of a case: summed logits ``[classes, D, H, W]`` and those of the class ``[subtypes]``."""

    segmentation: Array
    classification: Array | None

    def differs(self, labels: Array, tie: float = 1e-4) -> int:
        """Voxels that `labels` call otherwise, ties left out: there the two best logits are about equal."""
        best = np.sort(self.segmentation, axis=0)
        scale = max(1.0, float(np.abs(best).max()))
        return int(((labels != self.segmentation.argmax(0)) & (best[-1] - best[-2] > tie * scale)).sum())

    def differs_in_class(self, subtype: int | None, tie: float = 1e-4) -> bool:
        """Whether `subtype` is another class than this one's, ties left out."""
        if self.classification is None or subtype is None:
            return (self.classification is None) != (subtype is None)
        best = np.sort(self.classification)
        scale = max(1.0, float(np.abs(best).max()))
        return subtype != int(self.classification.argmax()) and best[-1] - best[-2] > tie * scale


def predict(
    forward: Forward, intensities: Array, window: tuple[float, float], tile: tuple[int, int, int], overlap: float
) -> Prediction:
    """One case through MONAI's sliding window, in float32, a tile at a time."""
    low, high = window
    x = torch.from_numpy(((intensities.clip(low, high) - low) / (high - low)).astype(np.float32))
    votes: list[Tensor] = []
    weights: list[Tensor] = []

    def network(tiles: Tensor) -> Tensor:
        segmentation, classification = forward(tiles)
        if classification is not None:
            votes.append(classification[0].double())
            weights.append(1 - segmentation[0].softmax(0)[0].double().mean())
        return segmentation

    with torch.inference_mode():
        summed = sliding_window_inference(
            x[None, None], tile, 1, network, overlap=overlap, mode="gaussian", sigma_scale=0.125, cval=0
        )
    assert isinstance(summed, Tensor)
    merged = sum(vote * weight for vote, weight in zip(votes, weights, strict=True)) if votes else None
    return Prediction(summed[0].double().numpy(), None if merged is None else merged.numpy())


def on_grid_of(shape: tuple[int, ...], affine: Array, labels: Array, labels_affine: Array) -> Array:
    """Labels in physical space, resampled onto the grid of an image, by SimpleITK's nearest neighbour."""
    image = _place(sitk.Image([int(n) for n in shape], sitk.sitkUInt8), affine)
    mask = _place(
        sitk.GetImageFromArray(np.ascontiguousarray(labels.astype(np.uint8).transpose(2, 1, 0))), labels_affine
    )
    resampled = sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 255)
    return sitk.GetArrayFromImage(resampled).transpose(2, 1, 0)


def _place(image: Any, affine: Array) -> Any:
    lps = np.diag([-1.0, -1.0, 1.0])  # NIfTI's axes lead to the right, front and top; ITK's to the left, back and top
    spacing = spacing_of(affine)
    image.SetSpacing(spacing)
    image.SetDirection((lps @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((lps @ affine[:3, 3]).tolist())
    return image


def dsc(predicted: Array, true: Array) -> float:
    metric = DiceMetric(include_background=True, ignore_empty=False)
    return float(metric(_batch(predicted), _batch(true)))


def nsd(predicted: Array, true: Array, spacing: tuple[float, float, float], tolerance: float) -> float:
    """Of MONAI, which gives NaN where both are empty; and by FLARE's rule 0 where the DSC is below 0.2."""
    if dsc(predicted, true) < 0.2:
        return 0.0
    metric = SurfaceDiceMetric(class_thresholds=[tolerance], include_background=True)
    value = float(metric(_batch(predicted), _batch(true), spacing=spacing))
    return 1.0 if np.isnan(value) else value


def _batch(mask: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(mask))[None, None]
