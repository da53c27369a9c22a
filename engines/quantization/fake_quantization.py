"""INT8 arithmetic imitated in PyTorch, to find out what it costs before an engine is built.

Symmetric, 8 bits, rounded to nearest: activations with one scale a tensor, weights with one an output channel, as
TensorRT's explicit quantization has them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engines.placement import copied

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of the magnitudes of a convolution's input; the rest is clipped. On the calibration tiles of the demo (width 8) it
# gave the smallest error of 100, 99.999, 99.99 and 99.9 %: 0.016 against 0.022, 0.019 and 0.024.
PERCENTILE = 99.99
LARGEST = 127  # of the symmetric range: -128 is left out, so that a sign may be turned
_SMALLEST = 2.0**-24  # the smallest positive number of float16


@dataclass(frozen=True)
class Scales:
    """Real numbers that one step of INT8 stands for.

    Attributes:
        activation: of the convolution's input.
        weight: of each output channel, float32 ``[out]``.
    """

    activation: float
    weight: Tensor


def candidates(module: nn.Module, channels: int = 1) -> list[str]:
    """Convolutions worth quantizing: those of more than one voxel that read more than the `channels` of the image.

    The first one (the image's channels) and the last (one voxel) are where INT8 saves least and costs most accuracy;
    transposed convolutions run in FP16 under Q/DQ nodes anyway (TensorRT issue 4668).
    """
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv3d) and layer.in_channels > channels and max(layer.kernel_size) > 1
    ]


@torch.inference_mode()
def calibrate(
    module: nn.Module, batches: Sequence[Tensor], percentile: float, convolutions: Sequence[str] | None = None
) -> dict[str, Scales]:
    """Scales of `convolutions` that run, from what of `batches` ``[B, C, D, H, W]`` passes through them.

    These are all `candidates` where none are named.

    `percentile` of the magnitudes is not clipped: outliers beyond it would stretch the scale for everyone else (Wu et
    al. 2020, Integer Quantization for Deep Learning Inference, section 5.2). It is taken of each tile
    ``[C, D, H, W]``, and the largest of all tiles counts, so that the scales are the same whatever the batch.
    """
    names = candidates(module, batches[0].shape[1]) if convolutions is None else convolutions
    layers = {name: module.get_submodule(name) for name in names}
    largest = dict[str, float]()

    def record(name: str) -> Callable[[Any, Any], None]:
        def hook(_layer: Any, inputs: Any) -> None:
            largest[name] = max(largest.get(name, 0.0), *(_percentile(tile, percentile) for tile in inputs[0]))

        return hook

    hooks = [layer.register_forward_pre_hook(record(name)) for name, layer in layers.items()]
    try:
        for batch in batches:
            module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: Scales(float(_step(torch.tensor(largest[name]))), _step(_channels(layer.weight).cpu()))
        for name, layer in layers.items()
        if name in largest
    }


def _step(largest: Tensor) -> Tensor:
    """What one step of INT8 stands for, as float16 can hold it, in float32; the smallest such number where all is 0.

    Subnormal numbers count: a channel of tiny weights is as large as any after its instance norm.
    """
    return (largest.float() / LARGEST).half().clamp_min(_SMALLEST).float()


def _channels(weight: Any) -> Tensor:
    largest: Tensor = weight.detach().abs().amax(dim=tuple(range(1, weight.ndim)))
    return largest


def _percentile(x: Tensor, percentile: float) -> float:
    beyond = int(x.numel() * (1 - percentile / 100))
    return float(x.detach().abs().float().flatten().topk(beyond + 1).values[-1])


class FakeQuantized:
    """A copy of a network in which chosen convolutions see what INT8 leaves of their inputs and weights.

    Raises:
        EngineError: it cannot be copied, or a copy would not be the same network.
    """

    def __init__(self, module: nn.Module, scales: Mapping[str, Scales]) -> None:
        self.module = copied(module)
        self._scales = scales
        self._active: frozenset[str] = frozenset()
        for name in scales:
            self.module.get_submodule(name).register_forward_pre_hook(self._rounder(name))

    @contextmanager
    def quantized(self, names: Iterable[str]) -> "Iterator[nn.Module]":
        """The network with these layers quantized."""
        self._active = frozenset(names)
        kept: dict[str, Tensor] = {}
        try:
            for name in self._active:
                weight: Any = self.module.get_submodule(name).weight
                kept[name] = weight.data
                weight.data = _rounded_weight(weight.data, self._scales[name].weight)
            yield self.module
        finally:
            for name, data in kept.items():
                weight = self.module.get_submodule(name).weight
                weight.data = data
            self._active = frozenset()

    def _rounder(self, name: str) -> Callable[[Any, Any], Any]:
        def hook(_layer: Any, inputs: Any) -> Any:
            if name not in self._active:
                return None
            step = self._scales[name].activation
            return (torch.fake_quantize_per_tensor_affine(inputs[0], step, 0, -LARGEST, LARGEST), *inputs[1:])

        return hook


def _rounded_weight(weight: Tensor, scales: Tensor) -> Tensor:
    zeros = torch.zeros_like(scales, dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scales.to(weight.device), zeros, 0, -LARGEST, LARGEST)
