"""Whether PyTorch's convolutions are right here: those of the network, at its own sizes, against float64.

For what `engines.host.known_faults` does not know yet, or knows of some shapes only. It is not timed.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.base import EngineError, Target
from engines.pytorch.session import half_of, torch_settings
from models.errors import sides

_WIDE = 2  # voxels of a side of the boxes in which a convolution is looked at: float64 is slow
_CERTAINTY = 10  # standard deviations of a sum's rounding
# Half a unit in the last place of the numbers that are multiplied.
_ROUNDING = {"fp32": 2.0**-24, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8}


def check_convolutions(module: nn.Module, target: Target, precision: str) -> None:
    """Run the network once, and each 3D convolution that is a layer of it in `precision` on the target's device.

    Of each kind of convolution and size of input one is held against float64, in the first and last corner of its
    output and in its middle. Convolutions that are called as functions, transposed ones and those that do not pad with
    zeros are left out, inputs and results that the precision does not hold, and all where the network cannot be run.

    Raises:
        EngineError: a result is further from float64's than rounding explains.
    """
    dtype = half_of(target) if precision == "half" else torch.float32
    kind = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, precision)
    seen, faults = set(), list[str]()

    def hook(name: str) -> Callable[[nn.Conv3d, tuple[Tensor, ...]], None]:
        def check(layer: nn.Conv3d, inputs: tuple[Tensor, ...]) -> None:
            key = (repr(layer), inputs[0].shape)  # the weights do not choose the kernel
            x = inputs[0].to(target.device, dtype)
            if key not in seen and not faults and x.isfinite().all():
                seen.add(key)
                error, bound = _error(layer, x), _bound(layer, kind)
                if not error <= bound:  # NaN is none either
                    faults.append(
                        f"PyTorch {torch.__version__} computes the layer {name} wrongly in {kind}, at an input of "
                        f"{sides(inputs[0].shape[2:])} voxels: relative error {error:.1g}, of which rounding explains "
                        f"{bound:.1g}"
                    )

        return check

    layers = [
        (name, each)
        for name, each in module.named_modules()
        if type(each) is nn.Conv3d and each.padding_mode == "zeros"  # a subclass may do something else
    ]
    if not layers:  # as in a program of the file's own: no pass for nothing
        return
    with ExitStack() as stack:
        stack.enter_context(torch_settings(target, tf32=precision == "tf32"))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.random.fork_rng(devices=()))
        for name, layer in layers:
            stack.callback(layer.register_forward_pre_hook(hook(name)).remove)
        with suppress(Exception):  # to open it will tell why
            weight = next(module.parameters())
            module(torch.rand(1, target.channels, *target.tile, device=weight.device, dtype=weight.dtype))
    if faults:
        raise EngineError(f"{faults[0]}; use another backend, or another version of PyTorch")


def _error(layer: nn.Conv3d, x: Tensor) -> float:
    """||here - float64|| / ||float64|| in the boxes that are looked at."""
    y = copy.deepcopy(layer).to(x.device, x.dtype)(x)
    weight = layer.weight.to("cpu", x.dtype).double()
    bias = None if layer.bias is None else layer.bias.to("cpu", x.dtype).double()
    wrong = right = 0.0
    for output, source, padding in _boxes(layer, x.shape[2:], y.shape[2:]):
        read = functional.pad(x[(..., *source)].cpu().double(), padding)
        exact = functional.conv3d(read, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
        if not exact.abs().max() <= torch.finfo(x.dtype).max:  # NaN is not either
            continue  # it is not PyTorch's fault that the type holds no such number
        wrong += float((y[..., *output].cpu().double() - exact).square().sum())
        right += float(exact.square().sum())
    return sqrt(wrong / right) if right else sqrt(wrong)


def _boxes(layer: nn.Conv3d, source: Any, output: Any) -> Iterator[tuple[Any, Any, list[int]]]:
    """Boxes of the output, the part of the input that each comes from, and the zeros around that, last axis first."""
    for start in (0.0, 0.5, 1.0):
        outputs, sources, padding = [], [], list[int]()
        for axis, (size, wide) in enumerate(zip(source, output, strict=True)):
            first = int(start * max(0, wide - _WIDE))
            count, stride, reach = min(_WIDE, wide), layer.stride[axis], layer.dilation[axis]
            reach = reach * (layer.kernel_size[axis] - 1) + 1
            before = {"same": (reach - 1) // 2, "valid": 0}.get(str(layer.padding))
            low = first * stride - (int(layer.padding[axis]) if before is None else before)
            high = low + (count - 1) * stride + reach
            outputs.append(slice(first, first + count))
            sources.append(slice(max(0, low), min(size, high)))
            padding = [max(0, -low), max(0, high - size), *padding]
        yield outputs, sources, padding


def _bound(layer: nn.Conv3d, kind: str) -> float:
    """The rounding of products and result, and of a sum of K terms in float32: a multiple of sqrt(K) u.

    Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41(5), 2019.
    """
    return 4 * _ROUNDING[kind] + _CERTAINTY * sqrt(prod(layer.weight.shape[1:])) * _ROUNDING["fp32"]
