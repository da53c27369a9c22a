"""Networks that label by bands of smoothed intensity, so that they are about right on the generated volumes.

Written to a file of their own, they are the user's code.
"""

import torch
from torch import Tensor, nn


class Bands(nn.Module):
    def __init__(self, labels: int, classes: int) -> None:
        super().__init__()
        self.smooth = nn.Conv3d(1, 2, 3, padding=1)
        self.seg = nn.Conv3d(2, labels, 1)
        self.cls = nn.Linear(2, classes) if classes else None

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        features = torch.relu(self.smooth(x))
        segmentation: Tensor = self.seg(features)
        if self.cls is None:
            return segmentation
        return {"segmentation": segmentation, "classification": self.cls(features.mean((2, 3, 4)))}


def bands(labels: int, classes: int) -> Bands:
    """With its weights: logits are lines over the intensity, each the highest in its own band."""
    network = Bands(labels, classes).eval().requires_grad_(False)
    kernel = torch.full((3, 3, 3), 0.02)
    kernel[1, 1, 1] = 1 - 26 * 0.02
    network.smooth.weight.copy_(torch.stack([kernel, -kernel])[:, None])
    network.smooth.bias.copy_(torch.tensor([0.0, 1.0]))
    slopes, offsets = torch.tensor([0.0, 40.0, 80.0]), torch.tensor([0.0, -20.8, -50.4])
    network.seg.weight.copy_(torch.stack([slopes, torch.zeros(3)], 1)[:labels, :, None, None, None])
    network.seg.bias.copy_(offsets[:labels])
    if network.cls is not None:
        steps = torch.arange(float(classes))
        network.cls.weight.copy_(torch.stack([90 * steps, 10 * steps], 1))
        network.cls.bias.copy_(-48 * steps - 1.2 * steps * (steps - 1))
    return network


def both() -> Bands:
    return bands(3, 3)


def two_classes() -> Bands:
    return bands(3, 2)


def lesions() -> Bands:
    return bands(3, 0)


def organ() -> Bands:
    return bands(2, 0)
