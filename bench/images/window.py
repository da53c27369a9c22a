"""Intensities as shades of grey: the range in which labelled tissue differs from what is around it."""

import numpy as np
from numpy.typing import NDArray

_TISSUE = (5, 95)  # percentiles of the labelled voxels, without their noise
_ALL = (1, 99)  # of all voxels, where none is labelled
SHADES = 128  # a step is far below the noise of CT and MRI, and 256 would take a sixth more of the page
_SAMPLE = 100_000  # voxels that percentiles are taken of


def window(intensities: NDArray[np.float32], labelled: NDArray[np.bool_]) -> tuple[float, float]:
    """The lowest and the highest intensity that are shown as what they are.

    It is the range of the labelled voxels, and as much again below and above it, within what the image holds: of soft
    tissue in CT that is near a radiologist's own window, and in MRI, whose units mean nothing, there is no other.
    """
    tissue = _percentiles(intensities[labelled], _TISSUE) if labelled.any() else None
    if tissue is None or tissue[0] == tissue[1]:
        low, high = _percentiles(intensities.ravel(), _ALL)
    else:
        around = tissue[1] - tissue[0]
        low = max(tissue[0] - around, float(intensities.min()))
        high = min(tissue[1] + around, float(intensities.max()))
    return (low, high) if high > low else (low, low + 1.0)


def to_shades(intensities: NDArray[np.float32], low: float, high: float) -> tuple[NDArray[np.uint8], float, float]:
    """The image between `low` and `high` in `SHADES`, with the slope and the intercept that lead back."""
    slope = (high - low) / (SHADES - 1)
    steps = np.rint((intensities.clip(low, high) - np.float32(low)) / np.float32(slope))
    return steps.astype(np.uint8), slope, low


def _percentiles(values: NDArray[np.float32], which: tuple[int, int]) -> tuple[float, float]:
    step = max(1, values.size // _SAMPLE)
    low, high = np.percentile(values[::step], which)
    return float(low), float(high)
