"""Checks of the Triton kernels in a process of its own: ``kernel_checks.py SEED DEVICE DTYPE``; prints JSON.

With TRITON_INTERPRET=1 they run on a CPU. Each figure is ||output - true|| / ||true|| against float64, on fresh
random inputs, with NaN in every output before.
"""

import copy
import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from engines.fused import triton_norm
from engines.fused.network import rewritten
from models.networks.unet import MultiTaskUNet

SEED, DEVICE, DTYPE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
LAST = torch.channels_last_3d
PLACE = {"device": DEVICE, "dtype": getattr(torch, DTYPE)}
Change = Callable[[Tensor], object]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, **PLACE).to(memory_format=LAST)


def empty(*shape: int) -> Tensor:
    return torch.full(shape, torch.nan, **PLACE).to(memory_format=LAST)


def error(output: Tensor, true: Tensor) -> float:
    return float((output.double() - true).norm() / true.norm())


def norm(
    *shape: int, change: Change = lambda x: None, affine: bool = False, pool: bool = False, wide: int = 0
) -> float:
    """Compare one call with float64; `change` alters the input, `wide` counts the channels of what `out` is part of."""
    x = random(*shape)
    change(x)
    weight, bias = (torch.randn(shape[1], **PLACE), torch.randn(shape[1], **PLACE)) if affine else (None, None)
    double = [None if tensor is None else tensor.double() for tensor in (weight, bias)]
    true = functional.leaky_relu(functional.instance_norm(x.double(), weight=double[0], bias=double[1], eps=1e-3), 0.2)
    whole = empty(shape[0], wide or shape[1], *shape[2:])
    out = whole[:, -shape[1] :]
    pooled = empty(*shape[:2], *(side // 2 for side in shape[2:])) if pool else None
    triton_norm.normalise(x, weight, bias, 1e-3, 0.2, out, pooled)
    assert bool(whole[:, : whole.shape[1] - shape[1]].isnan().all()), "it wrote beside its slice"
    return max(error(out, true), 0 if pooled is None else error(pooled, functional.max_pool3d(true, 2)))


def outlier(x: Tensor) -> None:
    x[..., 0, 0, 0] = 1000


def in_place() -> float:
    x = random(1, 8, 4, 4, 4)
    true = functional.leaky_relu(functional.instance_norm(x.double()), 0.01)
    triton_norm.normalise(x, None, None, 1e-5, 0.01, x)
    return error(x, true)


def placed() -> float:
    x, bias, whole = random(2, 6, 3, 4, 5), torch.randn(6, **PLACE), empty(2, 10, 3, 4, 5)
    triton_norm.place(x, bias, whole[:, :6])
    assert bool(whole[:, 6:].isnan().all()), "it wrote beside its slice"
    return error(whole[:, :6], x.double() + bias.double()[:, None, None, None])


def poisoned() -> float:
    """NaN in one image must reach all of its channel, and nothing else; 0 where it does."""
    x, out, pooled = random(2, 4, 4, 4, 4), empty(2, 4, 4, 4, 4), empty(2, 4, 2, 2, 2)
    x[1, 2, 3, 3, 3] = torch.nan
    triton_norm.normalise(x, None, None, 1e-5, 0.01, out, pooled)
    for output in (out, pooled):
        gone = output.isnan().all(dim=(2, 3, 4))
        assert gone.sum() == 1
        assert gone[1, 2]
        assert output.isnan().sum() == output[1, 2].numel()
    return 0.0


def repeated() -> float:
    """The same input gives the same bits; 0 where it does."""
    x = random(1, 8, 20, 20, 20)
    first, second = empty(*x.shape), empty(*x.shape)
    for out in (first, second):
        triton_norm.normalise(x, None, None, 1e-5, 0.01, out)
    assert torch.equal(first, second)
    return 0.0


def refused() -> float:
    """Layouts that the kernels would misread; 0 where each is refused with nothing written."""
    x, out = random(1, 4, 4, 4, 4), empty(1, 4, 4, 4, 4)
    flat, odd = torch.randn(1, 4, 4, 4, 4, **PLACE), random(1, 4, 3, 4, 4)
    for source, to, pooled in (
        (flat, out, None), (x, flat, None), (x, empty(1, 8, 4, 4, 4)[:, ::2], None), (x, empty(1, 8, 4, 4, 4), None),
        (x, out, empty(1, 4, 4, 2, 2)), (odd, empty(1, 4, 3, 4, 4), empty(1, 4, 1, 2, 2)),
    ):  # fmt: skip
        try:
            triton_norm.normalise(source, None, None, 1e-5, 0.01, to, pooled)
        except ValueError:
            continue
        raise AssertionError(f"{source.stride()} was written into {to.stride()}")
    assert bool(out.isnan().all())
    return 0.0


def few_programs() -> float:
    """Two programs go through five blocks of 512 voxels, the last one shorter."""
    before = triton_norm._PROGRAMS
    triton_norm._PROGRAMS = 2
    try:
        return norm(1, 8, 11, 13, 15, change=lambda x: x.add_(10))
    finally:
        triton_norm._PROGRAMS = before


def network(batch: int, *tile: int) -> float:
    """The whole rewritten network; its weights and input are exact in `DTYPE`, what lies between is not.

    The tiles leave some voxels at the bottleneck: of two alone, the norm is little more than the sign.
    """
    unet = MultiTaskUNet(4).eval().requires_grad_(False).to(**PLACE)
    x = torch.rand(batch, 1, *tile, **PLACE)
    true = copy.deepcopy(unet).double()(x.double())
    with torch.inference_mode():
        return max(
            error(output, expected) for output, expected in zip(rewritten(unet, triton_norm)(x), true, strict=True)
        )


def main() -> None:
    torch.manual_seed(SEED)
    torch.backends.cudnn.allow_tf32 = False  # the convolutions around the kernels are not what is checked
    checks = {
        "plain": norm(2, 8, 6, 5, 7),
        "many blocks": norm(1, 4, 20, 20, 20),
        "several blocks a program": few_programs(),
        "odd channels": norm(1, 5, 4, 6, 4),
        "more channels than a block": norm(1, 130, 2, 4, 2),
        "one voxel across": norm(2, 6, 5, 4, 1),
        "large mean": norm(2, 8, 6, 6, 6, change=lambda x: x.add_(100)),
        "large mean, an outlier first": norm(2, 8, 20, 6, 6, change=lambda x: outlier(x.add_(100))),
        "constant but for an outlier": norm(1, 4, 4, 4, 4, change=lambda x: outlier(x.zero_())),
        "affine": norm(3, 6, 4, 4, 4, affine=True),
        "slice": norm(2, 8, 4, 4, 4, wide=16),
        "pooled": norm(2, 8, 4, 6, 8, pool=True),
        "pooled slice, affine, odd channels": norm(1, 5, 6, 4, 2, pool=True, affine=True, wide=11),
        "in place": in_place(),
        "placed with a bias": placed(),
        "NaN": poisoned(),
        "again": repeated(),
        "other layouts": refused(),
        "network, batch 1": network(1, 32, 32, 32),
        "network, batch 2": network(2, 16, 32, 32),
    }
    print(json.dumps(checks))


if __name__ == "__main__":
    main()
