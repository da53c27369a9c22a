"""Intensities as the network was trained on them."""

import torch
from torch import Tensor

from bench.data.blocks import slabs


def normalise(intensities: Tensor, window: tuple[float, float]) -> Tensor:
    """Clip to `window` and map it to [0, 1]; ``[C, D, H, W]`` float32, on the device of what is given, a new tensor.

    On a CPU slab by slab, each of which is still in the cache when it is subtracted from and divided; there the result
    is contiguous.
    """
    low, high = window
    if intensities.device.type != "cpu":
        return intensities.clamp(low, high).sub_(low).div_(high - low)
    volume = torch.empty(intensities.shape, dtype=torch.float32)
    for source, target in zip(intensities, volume, strict=True):
        for rows in slabs(source.shape):
            torch.clamp(source[rows], low, high, out=target[rows]).sub_(low).div_(high - low)
    return volume
