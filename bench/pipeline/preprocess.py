"""Intensities on their way to the network: read where it runs, and as it was trained on them.

To a GPU they go as their files hold them, 2 bytes a voxel of int16, and are scaled there. Values equal those that
`read_image` scales on the host, bit by bit. What is sent lies in page-locked memory, so that it is copied beside what
the GPU does; PyTorch keeps that memory and hands it out again once it is copied.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.blocks import slabs
from bench.data.volume import Volume, not_finite, read_image, read_stored
from bench.data.voxels import StoredVoxels

_WIDE = ("i4", "i8")  # NumPy takes them to float32 by way of float64
_TOGETHER = 2**24  # voxels that are scaled at a time, which takes 128 MiB of float64


def read_onto(image_paths: Sequence[Path], device: torch.device) -> Volume:
    """What `read_image` gives, its intensities on `device`; on the host where PyTorch cannot convert what is stored.

    The copy and the scaling may still be under way on the current stream.

    Raises:
        InputError: as of `read_image`.
    """
    stored = read_stored(image_paths)
    if stored is None:
        return read_image(image_paths)
    shape = (len(stored.channels), *stored.channels[0][1].values.shape)
    intensities = torch.empty(shape, dtype=torch.float32, device=device)
    for channel, (path, voxels) in zip(intensities, stored.channels, strict=True):
        sent = _sent(voxels.values, device)
        depth = max(1, _TOGETHER // (shape[1] * shape[2]))
        for first in range(0, shape[3], depth):
            part = slice(first, first + depth)
            channel[..., part].copy_(_scaled(sent[..., part], voxels))
        if not (voxels.finite or bool(channel.isfinite().all())):
            raise not_finite(path)
    return Volume(intensities, stored.nifti)


def _sent(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array on `device`, its axes in memory as they are; uint16, which PyTorch can hardly use, as int16."""
    axes = sorted(range(values.ndim), key=lambda axis: -abs(values.strides[axis]))
    laid_out = values.transpose(axes)
    kind = torch.from_numpy(np.empty(0, np.int16 if values.dtype == np.uint16 else values.dtype)).dtype
    staged = torch.empty(laid_out.shape, dtype=kind, pin_memory=device.type == "cuda")
    np.copyto(staged.numpy().view(values.dtype), laid_out)
    return staged.to(device, non_blocking=True).permute([axes.index(axis) for axis in range(values.ndim)])


def _scaled(sent: Tensor, voxels: StoredVoxels) -> Tensor:
    """``values x slope + inter`` of what was sent, step by step as `nibabel.volumeutils.apply_read_scaling`."""
    if voxels.values.dtype == np.uint16:
        sent = sent.int().bitwise_and_(0xFFFF)
    if (voxels.slope, voxels.inter) == (1, 0):
        return sent.double() if voxels.values.dtype.str[1:] in _WIDE else sent
    scaled = sent.double()
    if voxels.slope != 1:
        scaled = scaled * voxels.slope
    if voxels.inter != 0:
        scaled = scaled + voxels.inter
    return scaled


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
