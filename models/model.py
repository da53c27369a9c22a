"""A trained network with everything an engine or a pipeline must know about it."""

import hashlib
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Model:
    """A network ready for inference.

    Attributes:
        module: in eval mode, float32, on the CPU; maps ``[B, 1, D, H, W]`` to a pair of logits,
            ``[B, classes, D, H, W]`` and ``[B, subtypes]``.
        architecture: the name of the recognised architecture, e.g. ``multitask-unet``.
        width: channels of the first level.
        tile: the training patch in voxels, in the order of the array's axes.
        window: intensities in HU that preprocessing maps to 0 and 1.
        sha256: over the names, shapes and values of the weights; equal weights give equal hashes
            whatever file they came from.
    """

    module: nn.Module
    architecture: str
    width: int
    tile: tuple[int, int, int]
    window: tuple[float, float]
    sha256: str

    @property
    def parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(p.numel() for p in self.module.parameters())


def weights_sha256(module: nn.Module) -> str:
    """Hash the state dict of `module` independently of the file it came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
