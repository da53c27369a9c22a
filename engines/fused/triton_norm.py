"""InstanceNorm, LeakyReLU and pooling of channels-last tensors, by Triton.

PyTorch's InstanceNorm takes and returns contiguous tensors, so that between channels-last convolutions each would be
copied there and back. Here a tensor of n bytes costs 3n: read for its moments, then read and written; its maxima cost
another n/8. PyTorch's norm and activation alone cost 5n, and the copies 4n.

All tensors are ``[N, C, D, H, W]`` with the channels last in memory; an output may be a slice of the channels of a
larger one, which is how the decoder's concatenations come for free. Sums have a fixed order: the same input gives the
same bits.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 4096  # of a block: for each of 128 threads, four loads of 16 bytes of float16
PROGRAMS = 512  # at least, where there is work for so many: a few for each multiprocessor, and few moments to merge


@triton.jit
def _merged(counts, means, spreads, total):
    """Mean and sum of squared deviations of `total` values from those of groups along the first axis.

    Unlike sums of squares, these do not cancel where the mean is large: equations 2.1 and, for the rounding of the
    mean itself, 1.7 of Chan, Golub and LeVeque 1983, Algorithms for Computing the Sample Variance.
    """
    rough = tl.sum(counts * means, axis=0, keep_dims=True) / total
    away = means - rough
    rest = tl.sum(counts * away, axis=0, keep_dims=True) / total
    spread = tl.sum(spreads + counts * away * away, axis=0, keep_dims=True) - total * rest * rest
    return rough + rest, spread


@triton.jit
def _moments_kernel(x, moments, voxels, channels, chunks, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """Mean and sum of squared deviations of `chunks` blocks of voxels, per image and channel.

    Each lane goes through the blocks by Welford's recurrence (1962, Note on a Method for Calculating Corrected Sums of
    Squares and Products), so that the lanes meet once, at the end.
    """
    part, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    begin = part * chunks * BLOCK_S
    lane = tl.arange(0, BLOCK_S)[:, None]
    means = tl.zeros([BLOCK_S, BLOCK_C], tl.float32)
    spreads = tl.zeros([BLOCK_S, BLOCK_C], tl.float32)
    for chunk in range(chunks):
        s = begin + chunk * BLOCK_S + lane
        inside = (s < voxels) & (c < channels)
        values = tl.load(x + (n * voxels + s) * channels + c, mask=inside, other=0).to(tl.float32)
        delta = tl.where(inside, values - means, 0.0)
        means += delta * (1.0 / (chunk + 1))  # one division for all, not one for each
        spreads += delta * (values - means)
    counts = tl.minimum(tl.maximum(tl.cdiv(voxels - begin - lane, BLOCK_S), 0), chunks).to(tl.float32)
    mean, spread = _merged(counts, means, spreads, tl.minimum(voxels - begin, chunks * BLOCK_S))
    out = moments + (n * tl.num_programs(0) + part) * 2 * channels + c
    tl.store(out, mean, mask=c < channels)
    tl.store(out + channels, spread, mask=c < channels)


@triton.jit
def _merge_kernel(
    moments, coefficients, weight, bias, parts, length, voxels, channels, eps,
    AFFINE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Mean, gain and offset of each image and channel: ``(x - mean) * gain + offset`` is its normalised value.

    They come from the moments of all parts, of `length` voxels each but the last.
    """
    n = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    p = tl.arange(0, BLOCK_P)[:, None]
    inside = (p < parts) & (c < channels)
    at = moments + (n * parts + p) * 2 * channels + c
    means, spreads = tl.load(at, mask=inside, other=0), tl.load(at + channels, mask=inside, other=0)
    counts = tl.where(p < parts, tl.minimum(voxels - p * length, length), 0).to(tl.float32)
    mean, spread = _merged(counts, means, spreads, voxels)
    gain = 1.0 / tl.sqrt(spread / voxels + eps)
    offset = tl.zeros([1, BLOCK_C], tl.float32)
    if AFFINE:
        gain *= tl.load(weight + c, mask=c < channels, other=0).to(tl.float32)
        offset += tl.load(bias + c, mask=c < channels, other=0).to(tl.float32)
    out = coefficients + n * 3 * channels + c
    tl.store(out, mean, mask=c < channels)
    tl.store(out + channels, gain, mask=c < channels)
    tl.store(out + 2 * channels, offset, mask=c < channels)


@triton.jit
def _activated(values, coefficients, c, channels, slope):
    """LeakyReLU of normalised `values`; `coefficients` are those of the image."""
    mean = tl.load(coefficients + c, mask=c < channels, other=0)
    gain = tl.load(coefficients + channels + c, mask=c < channels, other=0)
    offset = tl.load(coefficients + 2 * channels + c, mask=c < channels, other=0)
    values = (values.to(tl.float32) - mean) * gain + offset
    return tl.where(values >= 0, values, values * slope)


@triton.jit
def _apply_kernel(
    x, out, coefficients, voxels, channels, row, slope, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Normalise, activate and write."""
    n = tl.program_id(1).to(tl.int64)
    s = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)[:, None]
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    inside = (s < voxels) & (c < channels)
    at = n * voxels + s
    values = tl.load(x + at * channels + c, mask=inside, other=0)
    values = _activated(values, coefficients + n * 3 * channels, c, channels, slope)
    tl.store(out + at * row + c, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _pool_kernel(
    x, out, pooled, coefficients, depth, height, width, channels, row, slope,
    BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """As above, by cubes of 2 x 2 x 2 voxels, and write the maximum of each as well."""
    n = tl.program_id(1).to(tl.int64)
    half_height, half_width = height // 2, width // 2
    cubes = (depth // 2) * half_height * half_width
    cube = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)[:, None]
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    inside = (cube < cubes) & (c < channels)
    z, y, w = cube // (half_height * half_width) * 2, cube // half_width % half_height * 2, cube % half_width * 2
    largest = tl.full([BLOCK_S, BLOCK_C], float("-inf"), tl.float32)
    for corner in tl.static_range(8):
        s = ((z + corner // 4) * height + y + corner // 2 % 2) * width + w + corner % 2
        at = n * depth * height * width + s
        values = tl.load(x + at * channels + c, mask=inside, other=0)
        values = _activated(values, coefficients + n * 3 * channels, c, channels, slope)
        tl.store(out + at * row + c, values.to(out.dtype.element_ty), mask=inside)
        largest = tl.maximum(largest, values, propagate_nan=tl.PropagateNan.ALL)  # as PyTorch's
    tl.store(pooled + (n * cubes + cube) * channels + c, largest.to(pooled.dtype.element_ty), mask=inside)


@triton.jit
def _add_kernel(x, bias, out, voxels, channels, row, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """Add the bias and write."""
    n = tl.program_id(1).to(tl.int64)
    s = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)[:, None]
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    inside = (s < voxels) & (c < channels)
    at = n * voxels + s
    values = tl.load(x + at * channels + c, mask=inside, other=0).to(tl.float32)
    values += tl.load(bias + c, mask=c < channels, other=0).to(tl.float32)
    tl.store(out + at * row + c, values.to(out.dtype.element_ty), mask=inside)


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

    Raises:
        ValueError: a tensor has another layout or shape; nothing is written.
    """
    apply(x, coefficients(x, weight, bias, eps), slope, out, pooled)


def apply(x: Tensor, coefficients: Tensor, slope: float, out: Tensor, pooled: Tensor | None = None) -> None:
    """The same as `normalise` where the coefficients of the norm are known, as `coefficients` gives them."""
    row = _check(x, out, pooled)
    n, channels, *sides = x.shape
    voxels = sides[0] * sides[1] * sides[2]
    block_s, block_c = _blocks(channels)
    if pooled is None:
        grid = (triton.cdiv(voxels, block_s), n, triton.cdiv(channels, block_c))
        _apply_kernel[grid](
            x, out, coefficients, voxels, channels, row, slope, BLOCK_S=block_s, BLOCK_C=block_c
        )  # fmt: skip
        return
    block_s //= 4  # of eight voxels each: one load of 16 bytes for each of them
    grid = (triton.cdiv(voxels // 8, block_s), n, triton.cdiv(channels, block_c))
    _pool_kernel[grid](
        x, out, pooled, coefficients, *sides, channels, row, slope, BLOCK_S=block_s, BLOCK_C=block_c
    )  # fmt: skip


def _check(x: Tensor, out: Tensor, pooled: Tensor | None) -> int:
    """Elements of `out` from one voxel to the next; ValueError where shapes or layouts are others than are read."""
    n, channels, *sides = x.shape
    row = _row(x, out)
    if pooled is not None and (
        any(side % 2 for side in sides) or _row(pooled, pooled) != channels
        or pooled.shape != (n, channels, *(side // 2 for side in sides))
    ):  # fmt: skip
        raise ValueError(f"the maxima of {tuple(x.shape)} cannot be written into {tuple(pooled.shape)}")
    return row


def place(x: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write ``x + bias`` into `out`; shapes, layouts and errors as for `normalise`."""
    n, channels, *sides = x.shape
    voxels = sides[0] * sides[1] * sides[2]
    row = _row(x, out)
    block_s, block_c = _blocks(channels)
    grid = (triton.cdiv(voxels, block_s), n, triton.cdiv(channels, block_c))
    _add_kernel[grid](x, bias, out, voxels, channels, row, BLOCK_S=block_s, BLOCK_C=block_c)


def _blocks(channels: int) -> tuple[int, int]:
    """Voxels and channels of a block."""
    block_c = min(triton.next_power_of_2(channels), 128)
    return _ELEMENTS // block_c, block_c


def _row(x: Tensor, out: Tensor) -> int:
    """Elements of `out` from one voxel to the next.

    Raises:
        ValueError: `x` is not dense and channels last, or `out` is not of its shape and that, or a slice of such.
    """
    last = torch.channels_last_3d
    if not x.is_contiguous(memory_format=last) or out.shape != x.shape:
        raise ValueError(
            f"{tuple(x.shape)} with strides {x.stride()} cannot be written into {tuple(out.shape)}: "
            "give a dense channels-last tensor, and an output of its shape"
        )
    return row_of(out)


def row_of(x: Tensor) -> int:
    """Elements from one voxel to the next.

    Raises:
        ValueError: `x` is not channels last, nor a slice of the channels of such a tensor.
    """
    _, channels, depth, height, width = x.shape
    if x.is_contiguous(memory_format=torch.channels_last_3d):
        return channels  # the strides of axes of one voxel tell nothing
    row = x.stride(4)
    if x.stride() != (depth * height * width * row, 1, height * width * row, width * row, row):
        raise ValueError(f"a tensor with strides {x.stride()} is no slice of the channels of a channels-last one")
    return row


def coefficients(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Mean, gain and offset of every image and channel of a norm, float32 ``[N, 3, C]``.

    Raises:
        ValueError: `x` is not dense and channels last.
    """
    n, channels, *sides = x.shape
    if row_of(x) != channels:
        raise ValueError(f"{tuple(x.shape)} with strides {x.stride()} is a slice; give a dense channels-last tensor")
    voxels = sides[0] * sides[1] * sides[2]
    block_s, block_c = _blocks(channels)
    s_blocks, c_blocks = triton.cdiv(voxels, block_s), triton.cdiv(channels, block_c)
    chunks = max(1, s_blocks * c_blocks * n // PROGRAMS)
    moments = torch.empty(n, triton.cdiv(s_blocks, chunks), 2, channels, device=x.device)
    _moments_kernel[(moments.shape[1], n, c_blocks)](
        x, moments, voxels, channels, chunks, BLOCK_S=block_s, BLOCK_C=block_c
    )  # fmt: skip
    return merged_coefficients(moments, weight, bias, eps, chunks * block_s, voxels)


def merged_coefficients(
    moments: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, length: int, voxels: int
) -> Tensor:
    """Mean, gain and offset, float32 ``[N, 3, C]``, from the moments of the parts of each image.

    Args:
        moments: mean and sum of squared deviations, float32 ``[N, parts, 2, C]``; there are fewer than twice `PROGRAMS`
            parts.
        weight, bias: of an affine norm, ``[C]``.
        length: voxels of each part but the last.
    """
    n, parts, _, channels = moments.shape
    merged = torch.empty(n, 3, channels, device=moments.device)
    # Eight channels, 32 bytes, are the least that memory gives; the more programs, the shorter this step.
    _merge_kernel[(n, triton.cdiv(channels, 8))](
        moments, merged, weight, bias, parts, length, voxels, channels, eps,
        AFFINE=weight is not None, BLOCK_P=triton.next_power_of_2(parts), BLOCK_C=8, num_warps=8,
    )  # fmt: skip
    return merged
