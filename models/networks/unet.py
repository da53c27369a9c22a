"""The reference network: a 3D U-Net with a classification head on its bottleneck."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

SEGMENTATION_CLASSES = 3  # of the reference: background, pancreas, lesion
SUBTYPES = 3
POOLINGS = 4  # of the reference; each halves every axis, so a tile's sides are multiples of 2**4
DEEPEST = 7  # beyond any tile that fits in memory, and a name in a file may say anything
WIDEST = 1024  # likewise

FIRST_WEIGHT = "enc1.0.weight"  # [width, channels, 3, 3, 3]
LAST_WEIGHT = "seg_out.weight"  # [classes, width, 1, 1, 1]
LAST_OF_HEAD = "classifier.7.weight"  # [subtypes, 256]

INSTANCE, BATCH = "instance", "batch"
_NORMS: Mapping[str, Any] = {INSTANCE: nn.InstanceNorm3d, BATCH: nn.BatchNorm3d}


@dataclass(frozen=True)
class Shape:
    """What distinguishes one U-Net of this family from another.

    Attributes:
        width: channels of the first level; each level below has twice those of the one above.
        poolings: how often the encoder halves every axis.
        norm: ``instance`` or ``batch``.
        affine: the norms have weights and biases.
        bias: the convolutions of the blocks have biases.
        channels: images that go in together.
        classes: of the segmentation.
        subtypes: of the classification; 0 for a network that only segments.
    """

    width: int = 32
    poolings: int = POOLINGS
    norm: str = INSTANCE
    affine: bool = False
    bias: bool = True
    channels: int = 1
    classes: int = SEGMENTATION_CLASSES
    subtypes: int = SUBTYPES

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Shape":
        """Read it from names and shapes of weights; the reference's where they do not say, to compare against.

        Channels, classes and subtypes are the reference's: weights do not say what they stand for (`for_task`).

        Instance norms with running statistics have the same names as batch norms and, in eval mode, are the same
        function: both are taken for batch norms.
        """
        first = state.get(FIRST_WEIGHT)
        width = first.shape[0] if first is not None and first.ndim == 5 else 0
        levels = {int(level) for level in (_level(name) for name in state) if level.isdecimal() and len(level) < 3}
        poolings = max(levels, default=0)
        return cls(
            width if 1 <= width <= WIDEST else cls.width,
            poolings if 1 <= poolings <= DEEPEST else cls.poolings,
            BATCH if "enc1.1.running_mean" in state else INSTANCE,
            "enc1.1.weight" in state,
            first is None or "enc1.0.bias" in state or "enc1.3.bias" in state,
        )

    def for_task(self, channels: int, classes: int, state: Mapping[str, Tensor]) -> "Shape":
        """The same for other images and labels; with as many subtypes as `state` has, perhaps none."""
        last = state.get(LAST_OF_HEAD)
        subtypes = last.shape[0] if last is not None and last.ndim else 0
        return replace(self, channels=channels, classes=classes, subtypes=subtypes)

    def counts_otherwise(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the weights take another number of channels, or give another number of classes."""
        counted = {FIRST_WEIGHT: (1, self.channels), LAST_WEIGHT: (0, self.classes)}
        return any(
            name in state and state[name].ndim == 5 and state[name].shape[axis] != count
            for name, (axis, count) in counted.items()
        )

    def evidence(self, state: Mapping[str, Tensor]) -> str:
        """Which names and shapes of `state`, whose all fit, tell this shape."""
        first, deepest = list(state[FIRST_WEIGHT].shape), f"enc{self.poolings}"
        norms = "enc1.1.running_mean" if self.norm == BATCH else "no enc1.1.running_mean"
        return (
            f"{FIRST_WEIGHT} {first} tells the width, enc1 to {deepest} the poolings, {norms} the norm; "
            f"the names and shapes of all {len(state)} tensors fit"
        )

    def __str__(self) -> str:
        norm = f"{self.norm.capitalize()}Norm" + (" with weights" if self.affine and self.norm == INSTANCE else "")
        said = {
            f"width {self.width}": True,
            f"{self.poolings} poolings": self.poolings != POOLINGS,
            norm: (self.norm, self.affine) != (INSTANCE, False),
        }
        return ", ".join(text for text, unusual in said.items() if unusual)


def _level(name: str) -> str:
    """``3`` of ``enc3.0.weight``, or nothing."""
    head, _, rest = name.partition(".")
    return head.removeprefix("enc") if head.startswith("enc") and rest else ""


class MultiTaskUNet(nn.Module):
    """Segments a case and names its class in one pass; in the reference pancreas, lesion and the lesion's subtype.

    Parameter names and shapes are those of the reference checkpoint: 22,970,150 parameters at width 32,
    1,609,934 at width 8. The instance norms take their statistics over the tile, so another tile size
    is another function.
    """

    def __init__(self, width: int = 32, shape: Shape | None = None) -> None:
        """Of `shape`; without one, the reference at `width`."""
        super().__init__()
        self.shape = shape or Shape(width)
        widths = [self.shape.width * 2**level for level in range(self.shape.poolings + 1)]
        self.pool = nn.MaxPool3d(2)
        for level, (into, out) in enumerate(zip([self.shape.channels, *widths], widths[:-1], strict=False), 1):
            self.add_module(f"enc{level}", self._block(into, out))
        self.bottleneck = self._block(widths[-2], widths[-1])
        for level in range(self.shape.poolings, 0, -1):
            into, out = widths[level], widths[level - 1]
            self.add_module(f"up{level}", nn.ConvTranspose3d(into, out, 2, 2))
            self.add_module(f"dec{level}", self._block(into, out))
        self.seg_out = nn.Conv3d(widths[0], self.shape.classes, 1)
        self.classifier = self._head(widths[-1]) if self.shape.subtypes else None

    def _head(self, channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Dropout(0.2), nn.Linear(channels, 512), nn.LeakyReLU(),
            nn.Dropout(0.3), nn.Linear(512, 256), nn.LeakyReLU(),
            nn.Dropout(0.2), nn.Linear(256, self.shape.subtypes),
        )  # fmt: skip

    def _block(self, channels_in: int, channels_out: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            convolution = nn.Conv3d(channels, channels_out, 3, padding=1, bias=self.shape.bias)
            norm = _NORMS[self.shape.norm](channels_out, affine=self.shape.affine)
            layers += [convolution, norm, nn.LeakyReLU(0.01)]
        return nn.Sequential(*layers)

    def encoder(self) -> list[nn.Module]:
        """The blocks before each pooling, the first level first."""
        return [getattr(self, f"enc{level}") for level in range(1, self.shape.poolings + 1)]

    def decoder(self) -> list[tuple[nn.Module, nn.Module]]:
        """Upsampling and block of each level, the deepest first."""
        return [(getattr(self, f"up{n}"), getattr(self, f"dec{n}")) for n in range(self.shape.poolings, 0, -1)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map intensities in [0, 1], ``[B, channels, D, H, W]``, to logits of the segmentation,
        ``[B, classes, D, H, W]``, and of the classification, ``[B, subtypes]``.

        D, H and W must be multiples of ``2**poolings``: of 16 in the reference. Without subtypes the second output is
        one of the segmentation's logits, ``[B, 1]``, as of `models.networks.outputs.Pair`.
        """
        skips = []
        for block in self.encoder():
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        b = self.bottleneck(x)
        d = b
        for up, block in self.decoder():
            d = block(torch.cat([up(d), skips.pop()], dim=1))
        segmentation = self.seg_out(d)
        if self.classifier is None:
            return segmentation, segmentation[:, :1, 0, 0, 0]
        return segmentation, self.classifier(b.mean(dim=(2, 3, 4)))
