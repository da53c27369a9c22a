"""Made-up cases to try a package with: smooth noise in the range of intensities that the network knows.

They hold nothing of a patient. What is in them is no organ, but a network that is built or run otherwise labels it
otherwise.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import scipy
from numpy.typing import NDArray

from models.model import Model

DRAWN = 4  # cases, of which those are kept in which most is found
KEPT = 2
_SMOOTHNESS = (2.0, 6.0, 14.0)  # voxels
_STEPS = 64  # grey levels, so that the files are small


def write_images(model: Model, number: int, folder: Path) -> tuple[Path, ...]:
    """Write the channels of made-up case `number` into `folder`: a tile, and half of one more along one axis."""
    spacing = _spacing(model)
    sides = [math.ceil(side * (1.5 if axis == number % 3 else 1.1)) for axis, side in enumerate(_stored(model))]
    rng = np.random.default_rng(number)
    folder.mkdir(parents=True)
    paths = []
    for channel in range(model.channels):
        low, high = _range(model, channel)
        voxels = np.round(low + _noise(rng, sides) * (high - low)).astype(np.int16)
        image: Any = nib.Nifti1Image(voxels, np.diag([*spacing, 1.0]))  # type: ignore[no-untyped-call]
        image.header.set_xyzt_units("mm")
        path = folder / f"image_{channel:04}.nii.gz"
        image.to_filename(path)
        paths.append(path)
    return tuple(paths)


def richness(mask: Path) -> tuple[int, int]:
    """How much a mask holds, to choose by: its labels, and voxels of the rarest."""
    image: Any = nib.load(mask)
    counts = np.bincount(np.asarray(image.dataobj).ravel())
    return int((counts > 0).sum()), int(counts[counts > 0].min())


def _noise(rng: np.random.Generator, sides: list[int]) -> NDArray[np.float64]:
    """Between 0 and 1, in a few steps."""
    parts = [scipy.ndimage.gaussian_filter(rng.standard_normal(sides), sigma) for sigma in _SMOOTHNESS]
    total = sum(part / part.std() for part in parts)
    scaled = np.clip(0.5 + total / (6 * math.sqrt(len(parts))), 0, 1)
    steps: NDArray[np.float64] = np.round(scaled * _STEPS) / _STEPS
    return steps


def _stored(model: Model) -> tuple[float, ...]:
    """The tile's sides along the axes of a file: nnU-Net's first axis is z where its reader has it so."""
    if model.plans is None:
        return model.tile
    backward, patch = model.plans.plans["transpose_backward"], model.tile
    return tuple(patch[axis] for axis in backward)[::-1]


def _spacing(model: Model) -> tuple[float, ...]:
    """mm; of a network with plans a little more than theirs, so that something is resampled."""
    if model.plans is None:
        return (1.0, 1.0, 1.0)
    configuration: Mapping[str, Any] = model.plans.plans["configurations"][model.plans.configuration]
    backward, spacing = model.plans.plans["transpose_backward"], configuration["spacing"]
    return tuple(round(1.2 * spacing[axis], 3) for axis in backward)[::-1]


def _range(model: Model, channel: int) -> tuple[float, float]:
    """Intensities that the network tells apart, lowest and highest."""
    if model.plans is not None:
        known = model.plans.plans["foreground_intensity_properties_per_channel"].get(str(channel), {})
        if "percentile_00_5" in known:
            low, high = known["percentile_00_5"], known["percentile_99_5"]
            return (low, high) if high - low > 1 else (0.0, 1000.0)
        return 0.0, 1000.0
    low, high = model.window
    return (low, high) if high - low > 1 else (0.0, 1000.0)
