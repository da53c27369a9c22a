"""A network rewritten for channels-last tensors, its norms fused with their activations."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engines.base import EngineError
from models.networks.unet import MultiTaskUNet

LAST = torch.channels_last_3d
Convolve = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


class Kernels(Protocol):
    """What the rewritten network computes beside convolutions: `triton_norm`, or `torch_norm` where that cannot work.

    Tensors are ``[N, C, D, H, W]``, channels last; `out` may be a slice of the channels of another.
    """

    def normalise(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, out: Tensor,
        pooled: Tensor | None = None,
    ) -> None: ...  # fmt: skip

    def coefficients(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor: ...

    def apply(
        self, x: Tensor, coefficients: Tensor, slope: float, out: Tensor, pooled: Tensor | None = None
    ) -> None: ...

    def place(self, x: Tensor, bias: Tensor, out: Tensor) -> None: ...


def rewritten(module: nn.Module, kernels: Kernels) -> nn.Module:
    """The same function of `module`, which is taken apart, with fused norms.

    Raises:
        EngineError: it has no InstanceNorm that a LeakyReLU follows.
    """
    if not _fuse(module, kernels):
        raise EngineError("the network has no InstanceNorm3d followed by LeakyReLU, so there is nothing to fuse")
    network: Any = FusedUNet(module, kernels) if isinstance(module, MultiTaskUNet) else module
    fused: nn.Module = network.to(memory_format=LAST)
    return fused


def _fuse(module: nn.Module, kernels: Kernels) -> int:
    """Put a `NormActivation` in the place of every norm and activation that follow each other; return how many."""
    count = sum(_fuse(child, kernels) for child in module.children())
    if not isinstance(module, nn.Sequential):
        return count
    for i in range(len(module) - 1):
        before: Any = module[i - 1] if i > 0 else None
        norm, activation = module[i], module[i + 1]
        # A norm that tracks statistics is a fixed scaling in inference, and another function.
        if (
            isinstance(norm, nn.InstanceNorm3d)
            and isinstance(activation, nn.LeakyReLU)
            and not norm.track_running_stats
        ):
            convolved = isinstance(before, (nn.Conv3d, nn.ConvTranspose3d))
            if convolved:
                before.bias = None  # a constant in every voxel of a channel, which the norm takes away again
            module[i], module[i + 1] = NormActivation(norm, activation, kernels, in_place=convolved), nn.Identity()
            count += 1
    return count


class NormActivation(nn.Module):
    """InstanceNorm and LeakyReLU of ``[N, C, D, H, W]``; the result is channels last.

    Args:
        in_place: whether the input is nobody else's and may be overwritten.
    """

    def __init__(self, norm: nn.InstanceNorm3d, activation: nn.LeakyReLU, kernels: Kernels, in_place: bool) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.eps, self.slope = norm.eps, activation.negative_slope
        self._kernels, self._in_place = kernels, in_place

    def forward(self, x: Tensor, out: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """Return the result, written into `out` where that is given, and its 2 x 2 x 2 maxima in `pooled`."""
        x = x.contiguous(memory_format=LAST)
        if out is None:
            out = x if self._in_place else torch.empty_like(x)
        self._kernels.normalise(x, self.weight, self.bias, self.eps, self.slope, out, pooled)
        return out


class NormedConvolution(nn.Module):
    """A convolution and the norm behind it, whose application is left to what comes next.

    Attributes:
        slope: of the LeakyReLU behind the norm.
        before: slope of the one before the convolution, where its input comes with a norm that is left to it.
        convolve: computes it otherwise than cuDNN: ``(x, coefficients) -> (result, coefficients)``; None for cuDNN.
    """

    def __init__(self, convolution: nn.Conv3d, norm: Any, kernels: Kernels, before: float) -> None:
        super().__init__()
        self.convolution, self.weight, self.bias, self.eps = convolution, norm.weight, norm.bias, norm.eps
        self.slope, self.before, self.kernels = norm.slope, before, kernels
        self.convolve: Convolve | None = None

    def forward(self, x: Tensor, coefficients: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map ``[N, C, D, H, W]``, which is nobody else's where it comes with coefficients, to the same and its own."""
        return (self.convolve or self.by_cudnn)(x, coefficients)

    def by_cudnn(self, x: Tensor, coefficients: Tensor | None) -> tuple[Tensor, Tensor]:
        if coefficients is not None:
            self.kernels.apply(x, coefficients, self.before, x)
        y = self.convolution(x).contiguous(memory_format=LAST)
        return y, self.kernels.coefficients(y, self.weight, self.bias, self.eps)


class Block(nn.Module):
    """Convolution, norm and activation, twice."""

    def __init__(self, block: Any, kernels: Kernels) -> None:
        """Of a block of six, ``convolution norm-activation identity`` twice."""
        super().__init__()
        first, second = block[1], block[4]
        self.first = NormedConvolution(block[0], first, kernels, first.slope)
        self.second = NormedConvolution(block[3], second, kernels, first.slope)
        self._kernels = kernels

    def forward(self, x: Tensor, out: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """Return the result, written into `out` where that is given, and its 2 x 2 x 2 maxima in `pooled`."""
        y, coefficients = self.second(*self.first(x))
        out = y if out is None else out
        self._kernels.apply(y, coefficients, self.second.slope, out, pooled)
        return out


class Upsampling(nn.Module):
    """A transposed convolution that adds its bias while it writes into a slice of a concatenation.

    PyTorch adds it in a pass of its own after cuDNN's (aten/src/ATen/native/Convolution.cpp), and `cat` is another.
    """

    def __init__(self, up: Any, kernels: Kernels) -> None:
        super().__init__()
        self.bias, up.bias = up.bias, None
        self._up, self._kernels = up, kernels

    def forward(self, x: Tensor, out: Tensor) -> None:
        self._kernels.place(self._up(x).contiguous(memory_format=LAST), self.bias, out)


class FusedUNet(nn.Module):
    """The reference U-Net whose encoder and upsampling write straight into the decoder's concatenations.

    Between the convolutions of one 64 x 64 x 64 tile at width 32 in FP16 go, by counting every tensor of n bytes that
    an operation reads or writes, in PyTorch with channels last and here:

    - 18 x bias, norm, activation: 2n + 3n + 2n, and 4n to copy there and back, 982 MB; here 3n, 268 MB
    - 4 x pooling of such a result: n + n/8, 25 MB; here n/8, 3 MB
    - 4 x bias of the upsampling and concatenation: 2n + 4n, 134 MB; here 2n, 45 MB
    """

    def __init__(self, unet: Any, kernels: Kernels) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(Block(block, kernels) for block in unet.encoder())
        self.bottleneck, self.classifier = Block(unet.bottleneck, kernels), unet.classifier
        self.ups = nn.ModuleList(Upsampling(up, kernels) for up, _ in unet.decoder())
        self.decoder = nn.ModuleList(Block(block, kernels) for _, block in unet.decoder())
        self.seg_out = unet.seg_out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, channels, D, H, W]`` to logits ``[B, classes, D, H, W]``, channels last, and ``[B, subtypes]``."""
        joined = []  # per level [B, 2C, D, H, W]: the first half is for what comes up, the second is the skip
        for block in self.encoder:
            both, x = _encode(block, x)
            joined.append(both)
        x = self.bottleneck(x)
        classification = None if self.classifier is None else self.classifier(x.mean(dim=(2, 3, 4)))
        for up, block in zip(self.ups, self.decoder, strict=True):
            both = joined.pop()
            up(x, both[:, : both.shape[1] // 2])
            x = block(both)
        segmentation = self.seg_out(x)
        return segmentation, segmentation[:, :1, 0, 0, 0] if classification is None else classification


def _encode(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """A block's result as the second half of the channels of a tensor, and the maxima of that."""
    batch, channels, *sides = x.shape[0], block.second.convolution.out_channels, *x.shape[2:]
    both = empty(x, batch, 2 * channels, *sides)
    pooled = empty(x, batch, channels, *(side // 2 for side in sides))
    block(x, both[:, channels:], pooled)
    return both, pooled


def empty(like: Tensor, *shape: int) -> Tensor:
    """A tensor of this shape, channels last, of the type and on the device of another."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=LAST)
