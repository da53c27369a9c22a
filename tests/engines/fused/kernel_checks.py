"""Checks of the Triton kernels in a process of its own: ``kernel_checks.py SEED DEVICE DTYPE``; prints JSON.

With TRITON_INTERPRET=1 they run on a CPU. Each figure is ||output - true|| / ||true|| against float64, on fresh
random inputs, with NaN in every output before.
"""

import copy
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.base import EngineError, Target
from engines.fused import choice, triton_conv, triton_norm
from engines.fused.network import Block, NormedConvolution, rewritten
from models.model import Model
from models.networks.unet import MultiTaskUNet, Shape

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
    before = triton_norm.PROGRAMS
    triton_norm.PROGRAMS = 2
    try:
        return norm(1, 8, 11, 13, 15, change=lambda x: x.add_(10))
    finally:
        triton_norm.PROGRAMS = before


SMALL = (64, 16, 16, 4, 2)  # blocks, so that there are several of each kind


def convolution(
    *shape: int, to: int = 16, way: triton_conv.Way = SMALL, normed: bool = False, wide: int = 0, mean: float = 0
) -> float:
    """A convolution beside float64, and the moments of its result; `wide` counts the channels `x` is a slice of."""
    n, channels, *sides = shape
    x = (random(n, wide or channels, *sides) + mean)[:, -channels:]
    weight = (random(to, channels, 3, 3, 3) / (27 * channels) ** 0.5).to(memory_format=LAST)
    gain, bias = torch.randn(channels, **PLACE), torch.randn(channels, **PLACE)
    before, known = x.double(), None
    if normed:
        known = triton_norm.coefficients(x.contiguous(memory_format=LAST), gain, bias, 1e-5)
        before = functional.instance_norm(before, weight=gain.double(), bias=bias.double())
        before = functional.leaky_relu(before, 0.1)
    true = functional.conv3d(before, weight.double(), padding=1)
    out, voxels = empty(n, to, *sides), sides[0] * sides[1] * sides[2]
    moments, length = triton_conv.convolve(x, known, 0.1, weight, out, way)
    behind = triton_norm.merged_coefficients(moments, None, None, 1e-5, length, voxels)
    variance, mean_of = torch.var_mean(out.double(), (2, 3, 4), correction=0)
    for got, wanted in (
        (behind[:, 0], mean_of),
        (behind[:, 1], (variance + 1e-5).rsqrt()),
        (behind[:, 2], 0 * mean_of),
    ):
        assert float((got - wanted).abs().max()) < 1e-5 * max(1.0, float(wanted.abs().max())), "moments"
    return error(out, true)


def convolved_by_few_programs() -> float:
    before = triton_conv.PROGRAMS
    triton_conv.PROGRAMS = 2
    try:
        return convolution(1, 16, 7, 8, 9, normed=True)
    finally:
        triton_conv.PROGRAMS = before


def convolved_poison() -> float:
    """NaN reaches its neighbours in all channels, and nothing else; 0 where it does, with the same bits twice."""
    x, weight = random(2, 16, 5, 5, 5), random(32, 16, 3, 3, 3)
    x[1, 3, 0, 2, 2] = torch.nan
    first, second = empty(2, 32, 5, 5, 5), empty(2, 32, 5, 5, 5)
    for out in (first, second):
        triton_conv.convolve(x, None, 0.1, weight, out, SMALL)
    gone = first.isnan()
    assert gone[1, :, :2, 1:4, 1:4].all()
    assert gone.sum() == 32 * 18
    assert torch.equal(first.nan_to_num(), second.nan_to_num())
    return 0.0


def not_convolved() -> float:
    """What the kernel would misread; 0 where each is refused with nothing written."""
    x, weight, out = random(1, 16, 4, 4, 4), random(16, 16, 3, 3, 3), empty(1, 16, 4, 4, 4)
    for source, by, to in (
        (x.contiguous(), weight, out), (x, weight.contiguous(), out), (x, weight, out.contiguous()),
        (x, random(16, 32, 3, 3, 3), out), (x, random(24, 16, 3, 3, 3), empty(1, 24, 4, 4, 4)),
        (x, weight, empty(1, 16, 4, 4, 5)), (random(1, 32, 4, 4, 4)[:, ::2], weight, out),
    ):  # fmt: skip
        try:
            triton_conv.convolve(source, None, 0.1, by, to, SMALL)
        except ValueError:
            continue
        raise AssertionError(f"{tuple(source.shape)} by {tuple(by.shape)} was written into {tuple(to.shape)}")
    assert bool(out.isnan().all())
    return 0.0


def network(batch: int, *tile: int, own: bool = False) -> float:
    """The whole rewritten network; its weights and input are exact in `DTYPE`, what lies between is not.

    The tiles leave some voxels at the bottleneck: of two alone, the norm is little more than the sign. `own`: with our
    own convolutions wherever they can be.
    """
    unet = MultiTaskUNet(shape=Shape(4, poolings=3)).eval().requires_grad_(False).to(**PLACE)
    x = torch.rand(batch, 1, *tile, **PLACE)
    true = copy.deepcopy(unet).double()(x.double())
    module = rewritten(unet, triton_norm)
    with torch.inference_mode():
        if own:
            times = iter(range(10**6, 0, -1))  # each is faster than those before
            triton_conv.WAYS = triton_conv.WAYS[-1:]
            chosen = choice.choose(module, x, lambda _: float(next(times)))
            assert sum(each.times.startswith("own") for each in chosen.values()) == 5, chosen
        return max(error(output, expected) for output, expected in zip(module(x), true, strict=True))


def chosen() -> float:
    """cuDNN's stays where it is faster, where ours is off, and where ours breaks; 0 where it does."""
    layers = [
        layer for _ in range(2) for layer in (nn.Conv3d(16, 16, 3, padding=1), nn.InstanceNorm3d(16), nn.LeakyReLU())
    ]
    block = rewritten(nn.Sequential(*layers).to(**PLACE).requires_grad_(False), triton_norm)
    module, x = Block(block, triton_norm).to(memory_format=LAST), random(1, 16, 4, 5, 6)
    kernel, ways = triton_conv.convolve, triton_conv.WAYS
    triton_conv.WAYS = ways[-1:]

    def off(*arguments: Any) -> object:
        done = kernel(*arguments)
        arguments[4].mul_(1.1)
        return done

    def misjudged(*arguments: Any) -> object:
        moments, length = kernel(*arguments)
        return 1.5 * moments, length

    def broken(*_: Any) -> object:
        raise RuntimeError("out of resource: shared memory")

    try:
        for said, ours in (
            ("; own", kernel),
            ("is off by", off),
            ("is off by", misjudged),
            ("failed: RuntimeError", broken),
        ):
            triton_conv.convolve = ours
            times = iter(range(10**6))  # each is slower than those before
            made = choice.choose(module, x, lambda call, times=times: float(next(times)))
            assert list(made) == ["first", "second"]
            assert all(each.times.startswith("cuDNN") and said in each.times for each in made.values()), made
            assert all(each.way is None for each in made.values())
            assert module.first.convolve is module.second.convolve is None
    finally:
        triton_conv.convolve, triton_conv.WAYS = kernel, ways
    return 0.0


def kept() -> float:
    """A choice is made once for a device, a shape and a batch, and is taken from the cache from then on; 0 if so."""
    unet = MultiTaskUNet(shape=Shape(8, poolings=1)).eval().requires_grad_(False).to(**PLACE)
    model = Model(
        module=unet, architecture="multitask-unet", width=8, tile=(4, 4, 6), window=(0.0, 1.0), sha256="0" * 64
    )
    times = iter(range(10**6, 0, -1))  # each is faster than those before, so that ours is taken wherever it can be

    def never(_: Callable[[], object]) -> float:
        raise AssertionError("it is timed again")

    def opened(target: Target, timer: choice.Timer) -> tuple[Any, bool, nn.Module]:
        module = rewritten(copy.deepcopy(unet), triton_norm)
        said, cached = choice.kept_or_chosen(model, module, target, timer)
        ways = {
            name: None if layer.convolve is None else layer.convolve.args[1]  # type: ignore[attr-defined]
            for name, layer in module.named_modules()
            if isinstance(layer, NormedConvolution)
        }
        return (said, ways), cached, module

    triton_conv.WAYS, ways = triton_conv.WAYS[-1:], triton_conv.WAYS
    with tempfile.TemporaryDirectory() as folder:
        target = Target(DEVICE, model.tile, 1, 1, Path(folder))
        first, cached, before = opened(target, lambda _: float(next(times)))
        assert not cached
        assert sum(way is not None for way in first[1].values()) == 1, first
        again, cached, after = opened(target, never)
        assert cached
        assert again == first
        x = torch.rand(target.input_shape, **PLACE)
        with torch.inference_mode():
            assert all(torch.equal(one, other) for one, other in zip(before(x), after(x), strict=True))
        assert not opened(replace(target, batch=2), lambda _: float(next(times)))[1], "another batch, another choice"
        _refuse_forged(Path(folder), lambda: opened(target, never))
    triton_conv.WAYS = ways
    return 0.0


def _refuse_forged(folder: Path, opened: Callable[[], object]) -> None:
    for path in folder.glob("*/choice.json"):
        path.write_text(path.read_text().replace("4,", "3,", 1))
        manifest = json.loads((path.parent / "manifest.json").read_text())
        manifest["files"]["choice.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "manifest.json").write_text(json.dumps(manifest))
    try:
        opened()
    except EngineError:
        return
    raise AssertionError("a way that is none was taken")


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
        "convolution": convolution(2, 16, 3, 5, 6),
        "convolution behind a norm": convolution(2, 32, 3, 5, 6, normed=True, to=32),
        "convolution behind a norm, large mean": convolution(1, 16, 4, 6, 6, normed=True, mean=20),
        "convolution, blocks as large as can be": convolution(
            1, 48, 3, 4, 9, to=48, way=(128, 64, 64, 4, 3), normed=True
        ),
        "convolution of a slice": convolution(2, 16, 4, 4, 4, wide=48),
        "convolution, several blocks a program": convolved_by_few_programs(),
        "convolution of NaN": convolved_poison(),
        "convolution of other layouts": not_convolved(),
        "convolutions chosen": chosen(),
        "choice kept": kept(),
        "network, batch 1": network(1, 8, 16, 16),
        "network, batch 2": network(2, 8, 16, 16),
        "network, own convolutions": network(1, 8, 8, 16, own=True),
    }
    print(json.dumps(checks))


if __name__ == "__main__":
    main()
