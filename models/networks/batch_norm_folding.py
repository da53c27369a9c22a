"""Takes batch norms out of a network: in eval mode each is a constant scale and shift of its convolution's output."""

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def fold_batch_norms(module: nn.Module) -> int:
    """Fold every batch norm that follows a convolution in a Sequential into that convolution; return how many.

    With mean m, variance v, weight g and bias b of the norm, ``w' = w g / sqrt(v + eps)`` and
    ``c' = (c - m) g / sqrt(v + eps) + b`` (Ioffe and Szegedy, ICML 2015, on inference). The function in eval mode is
    the same up to rounding. An Identity takes the norm's place, so that no layer changes its name.
    """
    count = 0
    for block in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for i in range(1, len(block)):
            if isinstance(block[i - 1], nn.Conv3d) and isinstance(block[i], nn.BatchNorm3d):
                _fold(block[i - 1], block[i])
                block[i] = nn.Identity()
                count += 1
    return count


def _fold(convolution: Any, norm: Any) -> None:
    # In float64, so that what is rounded is the result and not each step towards it.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    shift = shift if norm.bias is None else shift + norm.bias.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    weight, dtype = convolution.weight, convolution.weight.dtype
    convolution.weight = nn.Parameter((weight.double() * scale.reshape(-1, 1, 1, 1, 1)).to(dtype))
    convolution.bias = nn.Parameter(shift.to(dtype))
