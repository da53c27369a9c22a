"""Writes cases of 105 structures with a network that knows them, as own code with a task file: to see a report of many.

    python scripts/demo/many_structures.py --out DIR [--cases 12]
    bench run --arch scripts/demo/many_structures.py:make_network --checkpoint DIR/network.pth \\
        --task DIR/task.toml --data DIR/raw --backends openvino-fp32,openvino-bf16

Each structure is a piece of the volume with an intensity of its own. The network averages over neighbouring voxels, and
its last layer takes the structure of the nearest intensity. So nobody needs to train it, it errs at borders, as trained
ones do, and it needs more digits than half precision has: there is something to lose.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor, nn

STRUCTURES = 105
STEP_HU = 18.0  # between the intensities of two structures
WINDOW = (-1000.0, 1000.0)  # HU, as own code is given its images: mapped to 0 and 1
NOISE_HU = 12.0
SHAPE, SPACING = (112, 104, 88), (1.5, 1.5, 2.0)  # voxels and mm, x, y, z
PIECES = (5, 6, 4)  # a volume's grid of pieces, some of which are background
WIDTHS = (1, 32, 32)  # channels between the averaging layers
SPREAD = 1.0  # voxels, of a layer's average
SHARPNESS = 2e4  # of the logits
SPLITS = {"Tr": 4, "Val": None}


class NearestIntensity(nn.Module):
    """Logits ``[B, 106, D, H, W]`` of images ``[B, 1, D, H, W]``: background and 105 structures."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            nn.Conv3d(before, after, 3, padding=1, padding_mode="replicate") for before, after in pairwise(WIDTHS)
        ]
        self.average = nn.Sequential(*layers)
        self.nearest = nn.Conv3d(WIDTHS[-1], STRUCTURES + 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.nearest(self.average(images))
        return logits


def make_network() -> nn.Module:
    return NearestIntensity()


def intensities() -> NDArray[np.float64]:
    """Of background and each structure, in HU."""
    return np.arange(STRUCTURES + 1, dtype=np.float64) * STEP_HU - 950.0


@torch.no_grad()
def with_weights() -> NearestIntensity:
    """The squared distance to an intensity c is x^2 - 2 c x + c^2, whose first term is the same for all."""
    network = NearestIntensity()
    line = np.exp(-0.5 * (np.arange(-1, 2) / SPREAD) ** 2)
    kernel = torch.from_numpy(np.einsum("i,j,k->ijk", line, line, line) / line.sum() ** 3).float()
    for layer in network.average:
        assert isinstance(layer, nn.Conv3d)
        assert layer.bias is not None
        layer.weight.copy_(kernel.expand(layer.weight.shape) / layer.in_channels)
        layer.bias.zero_()
    low, high = WINDOW
    wanted = torch.from_numpy((intensities() - low) / (high - low)).float()
    network.nearest.weight.copy_(
        (2 * SHARPNESS * wanted / WIDTHS[-1])[:, None, None, None, None].expand_as(network.nearest.weight)
    )
    assert network.nearest.bias is not None
    network.nearest.bias.copy_(-SHARPNESS * wanted**2)
    return network


def draw(rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """An image in HU and its mask, ``[x, y, z]``: each voxel belongs to the nearest of randomly moved centres."""
    places = np.indices(PIECES).reshape(3, -1).T + 0.5
    centres = (places + rng.uniform(-0.3, 0.3, places.shape)) * np.divide(SHAPE, PIECES)
    labels = rng.permutation(np.r_[np.arange(1, STRUCTURES + 1), np.zeros(len(centres) - STRUCTURES, int)])
    voxels = np.indices(SHAPE).reshape(3, -1).T
    mask = labels[KDTree(centres).query(voxels)[1]].reshape(SHAPE).astype(np.uint8)
    image = intensities()[mask] + rng.normal(0, NOISE_HU, SHAPE)
    return np.round(image).astype(np.int16), mask


def write(out: Path, cases: int) -> None:
    """Weights, task file and cases in nnU-Net's layout."""
    names = ["background", *(f"part {number:03d}" for number in range(1, STRUCTURES + 1))]
    rng = np.random.default_rng(0)
    number = 0
    for split, count in SPLITS.items():
        for folder in ("images", "labels"):
            (out / "raw" / f"{folder}{split}").mkdir(parents=True)
        for _ in range(count or cases):
            number += 1
            image, mask = draw(rng)
            affine = np.diag([*SPACING, 1.0])
            for folder, suffix, voxels in (("images", "_0000", image), ("labels", "", mask)):
                path = out / "raw" / f"{folder}{split}" / f"many_{number:03d}{suffix}.nii.gz"
                volume: Any = nib.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]  # nibabel annotates little
                volume.to_filename(path)
    labels = {name: value for value, name in enumerate(names)}
    document = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": SPLITS["Tr"], "file_ending": ".nii.gz"}
    (out / "raw/dataset.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    lines = ['name = "105 structures"', 'channels = ["CT"]', "", "[labels]"]
    lines += [f'"{name}" = {value}' for name, value in labels.items()]
    (out / "task.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch.save(with_weights().state_dict(), out / "network.pth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist")
    parser.add_argument("--cases", type=int, default=12, help="of the validation split")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists: remove it or name another")
    write(arguments.out, arguments.cases)


if __name__ == "__main__":
    main()
