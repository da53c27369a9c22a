"""The reference network: a 3D U-Net with a classification head on its bottleneck."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SEGMENTATION_CLASSES = 3  # background, pancreas, lesion
SUBTYPES = 3
POOLINGS = 4  # of the reference; each halves every axis, so a tile's sides are multiples of 2**4
DEEPEST = 7  # beyond any tile that fits in memory, and a name in a file may say anything
WIDEST = 1024  # likewise

FIRST_WEIGHT = "enc1.0.weight"  # [width, 1, 3, 3, 3]

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
    """

    width: int = 32
    poolings: int = POOLINGS
    norm: str = INSTANCE
    affine: bool = False
    bias: bool = True

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Shape":
        """Read it from names and shapes of weights; the reference's where they do not say, to compare against.

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
    """Segments pancreas and lesion and names the lesion's subtype in one pass.

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
        for level, (into, out) in enumerate(zip([1, *widths], widths[:-1], strict=False), 1):
            self.add_module(f"enc{level}", self._block(into, out))
        self.bottleneck = self._block(widths[-2], widths[-1])
        for level in range(self.shape.poolings, 0, -1):
            into, out = widths[level], widths[level - 1]
            self.add_module(f"up{level}", nn.ConvTranspose3d(into, out, 2, 2))
            self.add_module(f"dec{level}", self._block(into, out))
        self.seg_out = nn.Conv3d(widths[0], SEGMENTATION_CLASSES, 1)
        self.classifier = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(widths[-1], 512), nn.LeakyReLU(),
            nn.Dropout(0.3), nn.Linear(512, 256), nn.LeakyReLU(),
            nn.Dropout(0.2), nn.Linear(256, SUBTYPES),
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
        """Map intensities in [0, 1], ``[B, 1, D, H, W]``, to logits ``[B, 3, D, H, W]`` and ``[B, 3]``.

        D, H and W must be multiples of ``2**poolings``: of 16 in the reference.
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
        return self.seg_out(d), self.classifier(b.mean(dim=(2, 3, 4)))
