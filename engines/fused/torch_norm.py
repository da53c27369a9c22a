"""What `triton_norm` does, by PyTorch's own operations: for where Triton cannot work."""

import torch
from torch import Tensor
from torch.nn import functional


def normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, out: Tensor,
    pooled: Tensor | None = None,
) -> None:  # fmt: skip
    """Write ``leaky_relu(instance_norm(x))`` into `out`, and its 2 x 2 x 2 maxima into `pooled` where that is given."""
    normalised = functional.instance_norm(x, weight=weight, bias=bias, eps=eps)
    out.copy_(functional.leaky_relu(normalised, slope))
    if pooled is not None:
        pooled.copy_(functional.max_pool3d(out, 2))


def coefficients(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Mean, gain and offset of every image and channel of a norm, float32 ``[N, 3, C]``."""
    spread, mean = torch.var_mean(x.float(), (2, 3, 4), correction=0)
    gain = (spread + eps).rsqrt()
    offset = torch.zeros_like(mean)
    if weight is not None and bias is not None:
        gain, offset = gain * weight, offset + bias
    return torch.stack([mean, gain, offset], 1)


def apply(x: Tensor, coefficients: Tensor, slope: float, out: Tensor, pooled: Tensor | None = None) -> None:
    """The same as `normalise` where the coefficients of the norm are known, as `coefficients` gives them."""
    mean, gain, offset = coefficients[..., None, None, None].unbind(1)
    out.copy_(functional.leaky_relu((x.float() - mean) * gain + offset, slope))
    if pooled is not None:
        pooled.copy_(functional.max_pool3d(out, 2))


def place(x: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write ``x + bias`` into `out`."""
    out.copy_(x + bias[:, None, None, None])
