"""A trained network with everything an engine or a pipeline must know about it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.task import PANCREAS, Task

REFERENCE_TILE = (64, 64, 64)  # voxels: the patch that the reference network was trained on
REFERENCE_WINDOW = (-1000.0, 1000.0)  # HU
Sides = tuple[int | None, ...]  # B, C, D, H, W of an input; None where any will do


@dataclass(frozen=True)
class Plans:
    """How nnU-Net prepares a case for one of its networks.

    Attributes:
        plans, dataset: the contents of ``plans.json`` and ``dataset.json``.
        configuration: which of the plans' configurations, e.g. ``3d_fullres``.
    """

    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    configuration: str


Step = tuple[str, Mapping[str, Any]]  # the name of one of `monai.transforms`, and its arguments but for keys


@dataclass(frozen=True, kw_only=True)
class Transforms:
    """How a MONAI bundle prepares a case for its network, merges its tiles, and makes its logits a mask.

    Attributes:
        preprocessing: done to the volume, channels first, in the orientation of its file.
        postprocessing: done to the merged logits.
        mode: how tiles are weighted, ``constant`` or ``gaussian``, the latter with `sigma_scale` of the tile's sides.
        padding_mode, cval: how a volume shorter than a tile is padded, as of `torch.nn.functional.pad`.
    """

    preprocessing: tuple[Step, ...]
    postprocessing: tuple[Step, ...]
    mode: str = "gaussian"
    sigma_scale: float = 0.125
    padding_mode: str = "constant"
    cval: float = 0.0


class Program(nn.Module):
    """A network whose forward is a file's, and not Python code of ours or the user's.

    Attributes:
        container: of the file.
        takes: the input it accepts.
        sha256: of all that it was read from.
    """

    def __init__(self, container: str, takes: Sides, sha256: str) -> None:
        super().__init__()
        self.container = container
        self.takes = takes
        self.sha256 = sha256

    @property
    def batch(self) -> int | None:
        """Tiles in every pass; None for any."""
        return self.takes[0]

    @property
    def tile(self) -> tuple[int, int, int] | None:
        """Sides of the tile; None unless it takes one size only."""
        depth, height, width = self.takes[2:]
        return None if depth is None or height is None or width is None else (depth, height, width)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network ready for inference.

    Attributes:
        module: in eval mode, float32, on the CPU; maps ``[B, channels, D, H, W]`` to a pair of logits,
            ``[B, classes, D, H, W]`` and ``[B, subtypes]``.
        architecture: the name of the recognised architecture, e.g. ``multitask-unet``.
        width: channels of the first level.
        tile: the training patch in voxels, in the order of the array's axes, or of nnU-Net's with `plans`.
        window: intensities in HU that preprocessing maps to 0 and 1; not used with `plans`.
        sha256: over the names, shapes and values of the weights; equal weights give equal hashes
            whatever file they came from.
        task: what the network is for; its `labels` are a subset of the task's.
        labels: the label in masks of each of the network's classes.
        painting: of a network of overlapping regions, whose classes are independent of each other, the order in which
            they are painted into the mask, by their numbers: each where its logit is above 0, later over earlier. None
            for a network whose likeliest class is taken.
        subtypes: how many the network distinguishes; 0 where it only segments, and then the second output is a
            placeholder ``[B, 1]`` that means nothing.
        plans: nnU-Net's preprocessing, in the place of `window`; None for the volume as stored.
        bundle: a MONAI bundle's transforms, likewise.
        mirror_axes: of the input, along which nnU-Net allows its predictor to mirror; None where nothing says.
        overlap: share of a tile's side that neighbours have in common where the user names no other.
        code: hash of what makes the function beside weights and `architecture`, such as the user's own files.
        packages: names of the installed distributions that have a part in that function, beside PyTorch.
        program: the file's own program that the network is; None where it is PyTorch code.
        only_python: what its forward does that no graph of it can, such as branching on values of the image; empty
            where a graph can be made.
        mixed: its forward computes in other floating-point types beside float32.
        remarks: what was done to the network, or left out of it, on the way here.
        evidence: what the architecture was recognised by: names and shapes of weights, or a configuration beside them.
    """

    module: nn.Module
    architecture: str
    width: int
    tile: tuple[int, int, int]
    window: tuple[float, float]
    sha256: str
    task: Task = PANCREAS
    labels: tuple[int, ...] = PANCREAS.output_labels
    painting: tuple[int, ...] | None = None
    subtypes: int = 3
    plans: Plans | None = None
    bundle: Transforms | None = None
    mirror_axes: tuple[int, ...] | None = None
    overlap: float = 0.5
    code: str = ""
    packages: tuple[str, ...] = ()
    program: Program | None = None
    only_python: str = ""
    mixed: bool = False
    remarks: tuple[str, ...] = ()
    evidence: str = ""

    @property
    def channels(self) -> int:
        """Images that go in together."""
        return len(self.task.channels)

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


def json_sha256(*values: Any) -> str:
    """Hash plain values, whatever the order of keys in their dicts."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def first_width(module: nn.Module) -> int:
    """Channels that the first convolution of `module` puts out; 0 without one."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return next((layer.out_channels for layer in module.modules() if isinstance(layer, kinds)), 0)
