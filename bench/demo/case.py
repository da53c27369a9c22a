"""One made-up case, drawn from its seed alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bench.demo.grid import Field, Grid
from bench.demo.look import SUBTYPES, draw_look
from bench.demo.organs import draw_organs
from bench.demo.pancreas import draw_pancreas

SPACING = (0.73, 0.73, 2.0)
SMALLEST, LARGEST = (96, 80, 40), (128, 112, 80)
FIRST_ID = {"train": 0, "validation": 600, "test": 800}  # far enough apart that ids stay unique
LAST_ID = 999
BLUR = (0.8, 0.8, 0.4)  # voxels: the scanner's point spread
GRAIN = (0.6, 0.6, 0.3)  # voxels: how far its noise is correlated


@dataclass(frozen=True)
class Case:
    """A CT volume and its truth.

    ``image`` is in HU and ``labels`` 0 background, 1 pancreas, 2 lesion, both ``[x, y, z]``; ``spacing``
    is in mm. ``subtype`` is that of the lesion.
    """

    id: str
    subtype: int
    image: Field
    labels: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def case_rng(split: str, index: int, seed: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one case; ``stream`` parts those of its content from those of its files."""
    return np.random.default_rng([seed, FIRST_ID[split] + index, stream])


def draw_case(split: str, index: int, *, seed: int = 0) -> Case:
    """Draw case ``index`` of ``split`` (train, validation or test); the same arguments give the same case.

    Raises ValueError when the split has no such index.
    """
    last = min([first for first in FIRST_ID.values() if first > FIRST_ID[split]], default=LAST_ID + 1)
    if not 0 <= index < last - FIRST_ID[split]:
        raise ValueError(f"{split} has cases 0 to {last - FIRST_ID[split] - 1}, not {index}")
    rng = case_rng(split, index, seed)
    subtype = index % SUBTYPES
    x, y, z = (int(rng.integers(low, high + 1)) for low, high in zip(SMALLEST, LARGEST, strict=True))
    grid = Grid((x, y, z), SPACING)
    image = draw_organs(grid, rng)
    labels = draw_pancreas(image, grid, draw_look(rng, subtype, index), rng)
    image = gaussian_filter(image, BLUR)
    noise = gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), GRAIN)
    image += np.float32(rng.uniform(7, 13) / noise.std()) * noise
    return Case(f"{FIRST_ID[split] + index:03d}", subtype, image, labels, SPACING)
