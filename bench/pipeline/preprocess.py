"""Intensities as the network was trained on them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def normalise(intensities: NDArray[np.float32], window: tuple[float, float]) -> Tensor:
    """Clip HU to `window` and map it to [0, 1]; ``[D, H, W]`` float32, axes as stored, contiguous."""
    low, high = window
    # NIfTI arrays are Fortran-ordered, and tiles are cut along the first axis: one copy here, none later.
    volume = torch.from_numpy(np.ascontiguousarray(intensities))
    return volume.clamp_(low, high).sub_(low).div_(high - low)
