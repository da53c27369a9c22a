"""Cases whose truth is what a network says of them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import nn

SIDE = 32  # of a tile and of the cases: an eighth of the default work in each pass


def write_cases(split: Path, name: str, count: int, network: nn.Module, seed: int) -> None:
    """Write so many of one tile each into the folder of a split, in the quiz layout, a class after the other."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        subtype = number % 3
        folder = split / f"subtype{subtype}"
        folder.mkdir(parents=True, exist_ok=True)
        hu = rng.normal(0, 400, (SIDE, SIDE, SIDE)).astype(np.int16)
        with torch.inference_mode():
            x = torch.from_numpy(hu.clip(-1000, 1000).astype(np.float32)).add(1000).div(2000)
            truth = network(x[None, None])[0][0].argmax(0).numpy().astype(np.uint8)
        assert set(np.unique(truth)) == {0, 1, 2}
        case = f"{name.format(subtype=subtype)}_{number:03}"
        nib.save(nib.Nifti1Image(hu, np.eye(4)), folder / f"{case}_0000.nii.gz")
        nib.save(nib.Nifti1Image(truth, np.eye(4)), folder / f"{case}.nii.gz")
