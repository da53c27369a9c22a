"""InstanceNorm and LeakyReLU in one pass over channels-last tensors, by Triton. Not yet run on a GPU.

PyTorch's InstanceNorm takes and returns contiguous tensors, so that between channels-last convolutions each would be
copied there and back. Here a tensor of n bytes costs 3n: read for the sums, read and written when it is normalised;
with pooling another n/8. PyTorch's two operations alone cost 5n, and the copies 4n.

All tensors are ``[N, C, D, H, W]`` with the channels last in memory; an output may be a slice of the channels of a
larger one, which is how the decoder's concatenations come for free.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 4096  # of a block: 8 KiB of float16, 16 bytes a thread and load
_PROGRAMS = 512  # of the summation: a few for each multiprocessor, and few partial sums to add up


@triton.jit
def _sum_kernel(x, partial, voxels, channels, row, image, chunks, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sums of (x - shift) and its square over some voxels; the shift, a channel's first voxel, keeps a large mean from
    cancelling the variance (Chan, Golub and LeVeque 1983, Algorithms for Computing the Sample Variance)."""
    part, n = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    start = x + n.to(tl.int64) * image
    shift = tl.load(start + c, mask=c < channels, other=0).to(tl.float32)
    first = tl.zeros([BLOCK_C], tl.float32)
    second = tl.zeros([BLOCK_C], tl.float32)
    for chunk in range(chunks):
        s = (part * chunks + chunk) * BLOCK_S + tl.arange(0, BLOCK_S)
        inside = (s < voxels)[:, None] & (c < channels)[None, :]
        values = tl.load(start + s.to(tl.int64)[:, None] * row + c[None, :], mask=inside, other=0).to(tl.float32)
        centred = tl.where(inside, values - shift[None, :], 0.0)
        first += tl.sum(centred, axis=0)
        second += tl.sum(centred * centred, axis=0)
    out = partial + (n * tl.num_programs(0) + part).to(tl.int64) * 2 * channels
    tl.store(out + c, first, mask=c < channels)
    tl.store(out + channels + c, second, mask=c < channels)


@triton.jit
def _finish_kernel(
    x,
    partial,
    weight,
    bias,
    scale,
    offset,
    parts,
    voxels,
    channels,
    image,
    eps,
    AFFINE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Scale and offset of each channel, so that ``x * scale + offset`` is its normalised value."""
    n = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < channels
    first = tl.zeros([BLOCK_C], tl.float32)
    second = tl.zeros([BLOCK_C], tl.float32)
    for begin in range(0, parts, BLOCK_P):
        p = begin + tl.arange(0, BLOCK_P)
        mask = (p < parts)[:, None] & inside[None, :]
        at = partial + ((n * parts + p).to(tl.int64) * 2 * channels)[:, None] + c[None, :]
        first += tl.sum(tl.load(at, mask=mask, other=0.0), axis=0)
        second += tl.sum(tl.load(at + channels, mask=mask, other=0.0), axis=0)
    shift = tl.load(x + n.to(tl.int64) * image + c, mask=inside, other=0).to(tl.float32)
    mean = first / voxels
    variance = tl.maximum(second / voxels - mean * mean, 0.0)
    gain = 1.0 / tl.sqrt(variance + eps)
    start = -(mean + shift) * gain
    if AFFINE:
        factor = tl.load(weight + c, mask=inside, other=0).to(tl.float32)
        gain = gain * factor
        start = start * factor + tl.load(bias + c, mask=inside, other=0).to(tl.float32)
    tl.store(scale + n * channels + c, gain, mask=inside)
    tl.store(offset + n * channels + c, start, mask=inside)


@triton.jit
def _apply_kernel(
    x,
    out,
    scale,
    offset,
    voxels,
    channels,
    row,
    image,
    out_row,
    out_image,
    slope,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Normalise, activate and write."""
    n = tl.program_id(1)
    s = (tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)).to(tl.int64)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (s < voxels)[:, None] & (c < channels)[None, :]
    gain = tl.load(scale + n * channels + c, mask=c < channels, other=0.0)
    start = tl.load(offset + n * channels + c, mask=c < channels, other=0.0)
    values = tl.load(x + n.to(tl.int64) * image + s[:, None] * row + c[None, :], mask=inside, other=0).to(tl.float32)
    values = values * gain[None, :] + start[None, :]
    values = tl.where(values >= 0, values, values * slope)
    to = out + n.to(tl.int64) * out_image + s[:, None] * out_row + c[None, :]
    tl.store(to, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _pool_kernel(
    x,
    out,
    pooled,
    scale,
    offset,
    depth,
    height,
    width,
    channels,
    row,
    image,
    out_row,
    out_image,
    slope,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """As above, by blocks of 2 x 2 x 2 voxels, and write each block's maximum as well."""
    n = tl.program_id(1)
    half_h, half_w = height // 2, width // 2
    blocks = (depth // 2) * half_h * half_w
    block = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (block < blocks)[:, None] & (c < channels)[None, :]
    gain = tl.load(scale + n * channels + c, mask=c < channels, other=0.0)
    start = tl.load(offset + n * channels + c, mask=c < channels, other=0.0)
    corner_z = block // (half_h * half_w) * 2
    corner_y = block // half_w % half_h * 2
    corner_x = block % half_w * 2
    largest = tl.full([BLOCK_S, BLOCK_C], float("-inf"), tl.float32)
    for corner in tl.static_range(8):
        z, y, w = corner_z + corner // 4, corner_y + corner // 2 % 2, corner_x + corner % 2
        s = ((z * height + y) * width + w).to(tl.int64)
        values = tl.load(x + n.to(tl.int64) * image + s[:, None] * row + c[None, :], mask=inside, other=0)
        values = values.to(tl.float32) * gain[None, :] + start[None, :]
        values = tl.where(values >= 0, values, values * slope)
        to = out + n.to(tl.int64) * out_image + s[:, None] * out_row + c[None, :]
        tl.store(to, values.to(out.dtype.element_ty), mask=inside)
        largest = tl.maximum(largest, values)
    to = pooled + (n.to(tl.int64) * blocks + block.to(tl.int64)[:, None]) * channels + c[None, :]
    tl.store(to, largest.to(pooled.dtype.element_ty), mask=inside)


def normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, out: Tensor,
    pooled: Tensor | None = None,
) -> None:  # fmt: skip
    """Write ``leaky_relu(instance_norm(x))`` into `out`, and its 2 x 2 x 2 maxima into `pooled` where that is given.

    Args:
        x: ``[N, C, D, H, W]``, dense and channels last; with `pooled`, D, H and W are even.
        weight, bias: of an affine norm, ``[C]``.
        out: of x's shape, or a slice of the channels of a channels-last tensor; may be `x` itself.
        pooled: ``[N, C, D / 2, H / 2, W / 2]``, dense and channels last.
    """
    n, channels, depth, height, width = x.shape
    voxels = depth * height * width
    block_c = min(triton.next_power_of_2(channels), 128)
    block_s = _ELEMENTS // block_c
    c_blocks = triton.cdiv(channels, block_c)
    scale, offset = _statistics(x, weight, bias, eps, block_s, block_c)
    row, image, out_row, out_image = x.stride(4), x.stride(0), out.stride(4), out.stride(0)
    if pooled is None:
        grid = (triton.cdiv(voxels, block_s), n, c_blocks)
        _apply_kernel[grid](
            x, out, scale, offset, voxels, channels, row, image, out_row, out_image, slope,
            BLOCK_S=block_s, BLOCK_C=block_c,
        )  # fmt: skip
        return
    block_s = max(block_s // 4, 1)  # of eight voxels each: still 16 bytes a thread and load
    grid = (triton.cdiv(voxels // 8, block_s), n, c_blocks)
    _pool_kernel[grid](
        x, out, pooled, scale, offset, depth, height, width, channels, row, image, out_row, out_image, slope,
        BLOCK_S=block_s, BLOCK_C=block_c,
    )  # fmt: skip


def _statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, block_s: int, block_c: int
) -> tuple[Tensor, Tensor]:
    """Scale and offset of every image and channel, float32 ``[N, C]``."""
    n, channels, *sides = x.shape
    voxels = sides[0] * sides[1] * sides[2]
    c_blocks, s_blocks = triton.cdiv(channels, block_c), triton.cdiv(voxels, block_s)
    chunks = max(1, s_blocks * c_blocks * n // _PROGRAMS)
    parts = triton.cdiv(s_blocks, chunks)
    partial = torch.empty(n, parts, 2, channels, device=x.device)
    _sum_kernel[(parts, n, c_blocks)](
        x, partial, voxels, channels, x.stride(4), x.stride(0), chunks, BLOCK_S=block_s, BLOCK_C=block_c
    )
    found: Any = torch.empty(2, n, channels, device=x.device)
    affine = weight is not None
    _finish_kernel[(n, c_blocks)](
        x, partial, weight if affine else x, bias if affine else x, found[0], found[1],
        parts, voxels, channels, x.stride(0), eps, AFFINE=affine, BLOCK_P=32, BLOCK_C=block_c,
    )  # fmt: skip
    return found[0], found[1]
