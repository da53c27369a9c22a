"""What `triton_norm` does, by PyTorch's own operations: for where Triton cannot work."""

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


def place(x: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write ``x + bias`` into `out`."""
    out.copy_(x + bias[:, None, None, None])
