"""A 3D convolution with a norm before and behind it, by Triton.

An implicit matrix product: a row for each voxel of the output, a column for each of its channels, summed over 27
neighbours and all channels of the input. InstanceNorm and LeakyReLU of what came before are applied as the input is
loaded, and the moments of the next norm are taken of the output as it is stored, so that neither costs a pass over
memory. Zeros of the padding are zeros of the activated tensor.

Tensors are ``[N, C, D, H, W]`` with the channels last in memory, weights ``[C out, C in, 3, 3, 3]`` likewise. Sums have
a fixed order: the same input gives the same bits.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from engines.fused.triton_norm import PROGRAMS, row_of

Way = tuple[int, int, int, int, int]
WAYS: tuple[Way, ...] = (
    (128, 64, 64, 4, 3),
    (128, 64, 32, 4, 4),
    (256, 32, 32, 4, 4),
    (128, 128, 64, 8, 3),
    (64, 64, 64, 4, 4),
)
"""What is tried: most voxels, output and input channels of a block, warps of a program, stages of its loads."""

_LEAST = 16  # channels that the matrix units take
_MOST = 2**31  # elements that offsets of 32 bits reach


@triton.jit
def _convolve_kernel(
    x, weight, out, moments, coefficients, depth, height, width, channels_in, channels_out, row, chunks, slope,
    NORMED: tl.constexpr, STEPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """`chunks` blocks of voxels of an image, for a block of output channels, and the moments of all of these."""
    part, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
    voxels = depth * height * width
    c_out = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    c_in = tl.arange(0, BLOCK_K)
    image, result = x + n * voxels * row, out + n * voxels * channels_out
    coefficients += n * 3 * channels_in
    seen = 0.0
    means = tl.zeros([1, BLOCK_N], tl.float32)
    spreads = tl.zeros([1, BLOCK_N], tl.float32)
    for chunk in range(chunks):
        s = (part * chunks + chunk) * BLOCK_M + tl.arange(0, BLOCK_M)
        z, y, w = s // (height * width), s // width % height, s % width
        sums = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for step in range(27 * STEPS):
            tap, c = step // STEPS, step % STEPS * BLOCK_K + c_in
            dz, dy, dw = tap // 9 - 1, tap // 3 % 3 - 1, tap % 3 - 1
            inside = (s < voxels) & (z + dz >= 0) & (z + dz < depth)
            inside &= (y + dy >= 0) & (y + dy < height) & (w + dw >= 0) & (w + dw < width)
            at = (s + (dz * height + dy) * width + dw) * row
            values = tl.load(image + at[:, None] + c[None, :], mask=inside[:, None], other=0)
            if NORMED:
                values = _normalised(values, coefficients, c[None, :], channels_in, slope)
                values = tl.where(inside[:, None], values, 0.0).to(x.dtype.element_ty)
            taken = tl.load(weight + c_out[None, :] * (27 * channels_in) + tap * channels_in + c[:, None])
            sums = tl.dot(values, taken, sums, input_precision="ieee")
        stored = sums.to(out.dtype.element_ty)
        there = (s < voxels)[:, None]
        tl.store(result + s[:, None] * channels_out + c_out[None, :], stored, mask=there)
        count = tl.minimum(tl.maximum(voxels - (part * chunks + chunk) * BLOCK_M, 0), BLOCK_M).to(tl.float32)
        if count > 0:  # by Chan, Golub and LeVeque 1983, equations 2.1: moments of both from those of each
            rounded = stored.to(tl.float32)
            mean = tl.sum(tl.where(there, rounded, 0.0), axis=0, keep_dims=True) / count
            away = tl.where(there, rounded - mean, 0.0)
            delta, total = mean - means, seen + count
            spreads += tl.sum(away * away, axis=0, keep_dims=True) + delta * delta * (seen * count / total)
            means += delta * (count / total)
            seen = total
    at = moments + (n * tl.num_programs(0) + part) * 2 * channels_out + c_out[None, :]
    tl.store(at, means)
    tl.store(at + channels_out, spreads)


@triton.jit
def _normalised(values, coefficients, c, channels, slope):
    """Norm and LeakyReLU in the type of `values`, in which packed arithmetic takes half the time.

    What rounding takes from the mean goes into the offset, so that a large mean costs no accuracy.
    """
    kind: tl.constexpr = values.dtype
    mean, gain = tl.load(coefficients + c), tl.load(coefficients + channels + c)
    rounded = mean.to(kind)
    offset = tl.load(coefficients + 2 * channels + c) - (mean - rounded.to(tl.float32)) * gain
    values = (values - rounded) * gain.to(kind) + offset.to(kind)
    return tl.maximum(values, values * slope, propagate_nan=tl.PropagateNan.ALL)  # of slopes from 0 to 1


def takes(convolution: nn.Conv3d, slope: float) -> bool:
    """Whether the kernel computes this layer, behind an activation of this slope."""
    threes = (convolution.kernel_size, convolution.padding) == ((3, 3, 3), (1, 1, 1))
    ones = (convolution.stride, convolution.dilation, convolution.groups) == ((1, 1, 1), (1, 1, 1), 1)
    channels = convolution.in_channels % _LEAST == convolution.out_channels % _LEAST == 0
    return threes and ones and channels and convolution.padding_mode == "zeros" and 0 <= slope <= 1


def convolve(
    x: Tensor, coefficients: Tensor | None, slope: float, weight: Tensor, out: Tensor, way: Way
) -> tuple[Tensor, int]:
    """Write the convolution of ``leaky_relu(norm(x))`` into `out`; of `x` itself where there are no coefficients.

    Args:
        x: ``[N, C in, D, H, W]``, channels last, or a slice of the channels of such a tensor.
        coefficients: mean, gain and offset of each image and channel of `x`, float32 ``[N, 3, C in]``.
        slope: of the LeakyReLU, from 0 to 1.
        weight: ``[C out, C in, 3, 3, 3]``, dense and channels last; both counts are multiples of 16.
        out: ``[N, C out, D, H, W]``, dense and channels last.
        way: one of `WAYS`.

    Returns:
        Mean and sum of squared deviations of the parts of each image and output channel, float32 ``[N, parts, 2, C
        out]``, and the number of voxels of a part.

    Raises:
        ValueError: a tensor has another layout or shape; nothing is written.
    """
    n, channels_in, *sides = x.shape
    channels_out, last = weight.shape[0], torch.channels_last_3d
    row, voxels = row_of(x), sides[0] * sides[1] * sides[2]
    if not (weight.is_contiguous(memory_format=last) and out.is_contiguous(memory_format=last)):
        raise ValueError("weight and output are to be dense and channels last")
    if weight.shape[1:] != (channels_in, 3, 3, 3) or out.shape != (n, channels_out, *sides):
        raise ValueError(f"{tuple(x.shape)} by {tuple(weight.shape)} does not give {tuple(out.shape)}")
    if channels_in % _LEAST or channels_out % _LEAST or voxels * max(row, channels_out) >= _MOST:
        raise ValueError(f"{channels_in} to {channels_out} channels, {voxels} voxels: multiples of 16 are taken")
    block_m, block_n, _ = blocks(way, channels_in, channels_out)
    m_blocks, n_blocks = triton.cdiv(voxels, block_m), channels_out // block_n
    chunks = max(1, m_blocks * n_blocks * n // PROGRAMS)
    moments = torch.empty(n, triton.cdiv(m_blocks, chunks), 2, channels_out, device=x.device)
    torch.ops.voxbench.conv3d_between_norms(x, weight, out, moments, coefficients, slope, [row, chunks, *way])
    return moments, chunks * block_m


def ways(convolution: nn.Conv3d) -> list[Way]:
    """Those of `WAYS` that differ for this layer."""
    sizes = convolution.in_channels, convolution.out_channels
    return list(dict.fromkeys((*blocks(way, *sizes), way[3], way[4]) for way in WAYS))


def blocks(way: Sequence[int], channels_in: int, channels_out: int) -> tuple[int, int, int]:
    """Voxels, output channels and input channels of a block: at most those of `way`, and divisors of the layer's."""
    most_n, most_k = (channels & -channels for channels in (channels_out, channels_in))  # the largest powers of two
    return way[0], min(way[1], most_n), min(way[2], most_k)


# An operation of PyTorch's, so that a profiler's trace shows it with the shapes and types of its tensors.
@torch.library.custom_op("voxbench::conv3d_between_norms", mutates_args=("out", "moments"))
def _launch(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    moments: Tensor,
    coefficients: Tensor | None,
    slope: float,
    how: Sequence[int],
) -> None:
    row, chunks, *way, warps, stages = how
    n, channels_in, *sides = x.shape
    block_m, block_n, block_k = blocks(way, channels_in, weight.shape[0])
    grid = (moments.shape[1], n, weight.shape[0] // block_n)
    _convolve_kernel[grid](
        x, weight, out, moments, moments if coefficients is None else coefficients, *sides, channels_in,
        weight.shape[0], row, chunks, slope, NORMED=coefficients is not None, STEPS=channels_in // block_k,
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k, num_warps=warps, num_stages=stages,
    )  # fmt: skip
