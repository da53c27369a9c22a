"""Intensities as the network was trained on them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.pipeline.blocks import slabs


def normalise(intensities: NDArray[np.float32], window: tuple[float, float]) -> Tensor:
    """Clip HU to `window` and map it to [0, 1]; ``[D, H, W]`` float32, axes as stored, contiguous, a new tensor.

    Slab by slab, each of which is still in the cache when it is subtracted from and divided.
    """
    low, high = window
    given = torch.from_numpy(intensities)
    volume = torch.empty(given.shape, dtype=torch.float32)
    for rows in slabs(intensities.shape):
        torch.clamp(given[rows], low, high, out=volume[rows]).sub_(low).div_(high - low)
    return volume
