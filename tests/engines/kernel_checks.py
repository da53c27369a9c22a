"""Checks of the Triton kernels in a process of its own: ``kernel_checks.py SEED DEVICE DTYPE``; prints JSON.

With TRITON_INTERPRET=1 they run on a CPU. Each figure is ||found - true|| / ||true|| against float64, on fresh
random inputs, with NaN in every output before.
"""

import copy
import json
import sys

import torch

from engines import fused
from engines.triton_norm import normalise
from models.unet import MultiTaskUNet

SEED, DEVICE, DTYPE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
LAST = torch.channels_last_3d
PLACE = {"device": DEVICE, "dtype": getattr(torch, DTYPE)}


def empty(*shape: int) -> torch.Tensor:
    return torch.full(shape, float("nan"), **PLACE).to(memory_format=LAST)


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found.double() - true).norm() / true.norm())


def norm(shape: tuple[int, ...], mean: float = 0.0, affine: bool = False, pool: bool = False, wide: int = 0) -> float:
    """Compare one call with float64; `wide`: channels of the tensor that the output is a slice of."""
    x = (torch.randn(shape, **PLACE) + mean).to(memory_format=LAST)
    weight, bias = (torch.randn(shape[1], **PLACE), torch.randn(shape[1], **PLACE)) if affine else (None, None)
    double = [None if one is None else one.double() for one in (weight, bias)]
    true = torch.nn.functional.instance_norm(x.double(), weight=double[0], bias=double[1], eps=1e-5)
    true = torch.nn.functional.leaky_relu(true, 0.01)
    whole = empty(shape[0], wide or shape[1], *shape[2:])
    out = whole[:, -shape[1] :]
    pooled = empty(*shape[:2], *(side // 2 for side in shape[2:])) if pool else None
    normalise(x, weight, bias, 1e-5, 0.01, out, pooled)
    if wide:
        assert bool(whole[:, : wide - shape[1]].isnan().all()), "it wrote beside its slice"
    errors = [error(out, true)]
    if pooled is not None:
        errors.append(error(pooled, torch.nn.functional.max_pool3d(true, 2)))
    return max(errors)


def in_place() -> float:
    x = torch.randn(1, 8, 4, 4, 4, **PLACE).to(memory_format=LAST)
    true = torch.nn.functional.leaky_relu(torch.nn.functional.instance_norm(x.double()), 0.01)
    normalise(x, None, None, 1e-5, 0.01, x)
    return error(x, true)


def network(batch: int) -> float:
    """The whole rewritten network; its weights and input are exact in `DTYPE`, what lies between is not."""
    unet = MultiTaskUNet(4).eval().requires_grad_(False).to(**PLACE)
    x = torch.rand(batch, 1, 16, 16, 32, **PLACE)
    true = copy.deepcopy(unet).double()(x.double())
    module = fused.rewritten(unet).to(memory_format=LAST)
    with torch.inference_mode():
        return max(error(found, one) for found, one in zip(module(x), true, strict=True))


def main() -> None:
    torch.manual_seed(SEED)
    checks = {
        "plain": norm((2, 8, 6, 5, 7)),
        "many blocks": norm((1, 4, 20, 20, 20)),
        "odd channels": norm((1, 5, 4, 6, 4)),
        "more channels than a block": norm((1, 130, 2, 4, 2)),
        "large mean": norm((2, 8, 6, 6, 6), mean=100.0),
        "affine": norm((3, 6, 4, 4, 4), affine=True),
        "slice": norm((2, 8, 4, 4, 4), wide=16),
        "pooled": norm((2, 8, 4, 6, 8), pool=True),
        "pooled slice, odd channels": norm((1, 5, 6, 4, 2), pool=True, wide=11),
        "in place": in_place(),
        "network, batch 1": network(1),
        "network, batch 2": network(2),
    }
    print(json.dumps(checks))


if __name__ == "__main__":
    main()
