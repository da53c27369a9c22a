"""FP16 and channels last from end to end: cuDNN's convolutions, norms and activations fused. Not yet run on a GPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines import Backend
from engines.base import Availability, EngineError, Target
from engines.checks import check
from engines.graph import graph_session
from engines.torch_session import TorchSession, torch_settings
from models.unet import MultiTaskUNet

if TYPE_CHECKING:
    from models.model import Model

LAST = torch.channels_last_3d


def engine(backend: Backend) -> "Fused":
    """Return the engine of `backend`."""
    return Fused(backend)


class Fused:
    """Replays a rewritten network as a CUDA graph.

    Each InstanceNorm with its LeakyReLU is one Triton kernel on channels-last tensors (PyTorch's own norm where Triton
    is missing). In the reference U-Net it also pools, and the concatenations of the decoder are written in place.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def probe(self, target: Target) -> Availability:
        return check(target, self._backend)

    @contextmanager
    def open(self, model: "Model", target: Target) -> Iterator[TorchSession]:
        module = rewritten(copy.deepcopy(model.module)).to(target.device, torch.float16)
        module = module.to(memory_format=LAST)  # type: ignore[call-overload]

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            segmentation, classification = module(x.half())
            return segmentation.float().contiguous(), classification.float()

        norm = "triton" if find_spec("triton") else "pytorch: the package triton is not installed"
        with torch_settings(target), torch.cuda.device(target.device):
            yield graph_session(forward, model, target, {"norm": norm})


def rewritten(module: nn.Module) -> nn.Module:
    """The same function of `module`, which is taken apart, with fused norms.

    Raises:
        EngineError: it has no InstanceNorm that a LeakyReLU follows.
    """
    fused = _fuse(module)
    if not fused:
        raise EngineError("the network has no InstanceNorm3d followed by LeakyReLU, so there is nothing to fuse")
    return FusedUNet(module) if isinstance(module, MultiTaskUNet) else module


class NormActivation(nn.Module):
    """InstanceNorm and LeakyReLU on channels-last ``[N, C, D, H, W]``."""

    def __init__(self, norm: nn.InstanceNorm3d, activation: nn.LeakyReLU) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.eps, self.slope = norm.eps, activation.negative_slope

    def forward(self, x: Tensor, out: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """Return the result, written into `out` where that is given, and its 2 x 2 x 2 maxima in `pooled`."""
        x = x.contiguous(memory_format=LAST)
        out = x if out is None else out
        if find_spec("triton") is not None:
            from engines.triton_norm import normalise

            normalise(x, self.weight, self.bias, self.eps, self.slope, out, pooled)
            return out
        found = functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        out.copy_(functional.leaky_relu(found, self.slope))
        if pooled is not None:
            pooled.copy_(functional.max_pool3d(out, 2))
        return out


def _fuse(module: nn.Module) -> int:
    """Put a `NormActivation` in the place of every norm and activation that follow each other; return how many."""
    count = 0
    for child in module.children():
        count += _fuse(child)
    if not isinstance(module, nn.Sequential):
        return count
    for i in range(1, len(module) - 1):
        before, norm, activation = module[i - 1], module[i], module[i + 1]
        if isinstance(norm, nn.InstanceNorm3d) and isinstance(activation, nn.LeakyReLU):
            if isinstance(before, nn.Conv3d):
                before.bias = None  # a constant in every voxel of a channel, which the norm takes away again
            module[i], module[i + 1] = NormActivation(norm, activation), nn.Identity()
            count += 1
    return count


class FusedUNet(nn.Module):
    """The reference U-Net whose encoder writes straight into the decoder's concatenations, and pools on the way."""

    def __init__(self, unet: MultiTaskUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, 1, D, H, W]`` to logits ``[B, 3, D, H, W]``, channels last, and ``[B, 3]``."""
        unet: Any = self.unet
        joined = []  # per level [B, 2C, D, H, W]: the first half is for what comes up, the second is the skip
        for block in (unet.enc1, unet.enc2, unet.enc3, unet.enc4):
            x = _inner(block, x)
            batch, channels, *sides = x.shape
            both = _empty(x, batch, 2 * channels, *sides)
            pooled = _empty(x, batch, channels, *(side // 2 for side in sides))
            block[4](x, both[:, channels:], pooled)
            joined.append(both)
            x = pooled
        x = unet.bottleneck(x)
        classification = unet.classifier(x.mean(dim=(2, 3, 4)))
        for up, block in ((unet.up4, unet.dec4), (unet.up3, unet.dec3), (unet.up2, unet.dec2), (unet.up1, unet.dec1)):
            both = joined.pop()
            both[:, : both.shape[1] // 2].copy_(up(x))
            x = block(both)
        return unet.seg_out(x), classification


def _inner(block: Any, x: Tensor) -> Tensor:
    """A block up to its last convolution: ``conv norm-activation identity conv`` of six."""
    found: Tensor = block[3](block[1](block[0](x)))
    return found


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=LAST)
