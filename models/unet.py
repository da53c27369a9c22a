"""The reference network: a 3D U-Net with a classification head on its bottleneck."""

import torch
from torch import Tensor, nn

SEGMENTATION_CLASSES = 3  # background, pancreas, lesion
SUBTYPES = 3
POOLINGS = 4  # each halves every axis, so a tile's sides are multiples of 2**4


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [nn.Conv3d(channels, channels_out, 3, padding=1), nn.InstanceNorm3d(channels_out), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


class MultiTaskUNet(nn.Module):
    """Segments pancreas and lesion and names the lesion's subtype in one pass.

    Parameter names and shapes are those of the reference checkpoint: 22,970,150 parameters at width 32,
    1,609,934 at width 8. The instance norms take their statistics over the tile, so another tile size
    is another function.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w1, w2, w3, w4, w5 = (width * 2**level for level in range(POOLINGS + 1))
        self.enc1, self.enc2, self.enc3, self.enc4 = _block(1, w1), _block(w1, w2), _block(w2, w3), _block(w3, w4)
        self.pool = nn.MaxPool3d(2)
        self.bottleneck = _block(w4, w5)
        self.up4, self.dec4 = nn.ConvTranspose3d(w5, w4, 2, 2), _block(w5, w4)
        self.up3, self.dec3 = nn.ConvTranspose3d(w4, w3, 2, 2), _block(w4, w3)
        self.up2, self.dec2 = nn.ConvTranspose3d(w3, w2, 2, 2), _block(w3, w2)
        self.up1, self.dec1 = nn.ConvTranspose3d(w2, w1, 2, 2), _block(w2, w1)
        self.seg_out = nn.Conv3d(w1, SEGMENTATION_CLASSES, 1)
        self.classifier = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(w5, 512), nn.LeakyReLU(),
            nn.Dropout(0.3), nn.Linear(512, 256), nn.LeakyReLU(),
            nn.Dropout(0.2), nn.Linear(256, SUBTYPES),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map intensities in [0, 1], ``[B, 1, D, H, W]``, to logits ``[B, 3, D, H, W]`` and ``[B, 3]``.

        D, H and W must be multiples of 16.
        """
        e1 = self.enc1(x)
        e2 = self.enc2(self.pool(e1))
        e3 = self.enc3(self.pool(e2))
        e4 = self.enc4(self.pool(e3))
        b = self.bottleneck(self.pool(e4))
        d = self.dec4(torch.cat([self.up4(b), e4], dim=1))
        d = self.dec3(torch.cat([self.up3(d), e3], dim=1))
        d = self.dec2(torch.cat([self.up2(d), e2], dim=1))
        d = self.dec1(torch.cat([self.up1(d), e1], dim=1))
        return self.seg_out(d), self.classifier(b.mean(dim=(2, 3, 4)))
