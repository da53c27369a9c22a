"""One made-up case, drawn from its seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from bench.demo.appearance import SUBTYPES, draw_appearance
from bench.demo.body import draw_body
from bench.demo.grid import Field, Grid
from bench.demo.organs import draw_organs
from bench.demo.pancreas import draw_pancreas

Shape = tuple[int, int, int]

SPACING = (0.73, 0.73, 2.0)
SMALLEST, LARGEST = (96, 80, 40), (128, 112, 80)
ABDOMEN_SMALLEST, ABDOMEN_LARGEST = (244, 244, 120), (264, 264, 136)
ABDOMEN_STREAM = 2  # of random numbers: 0 is the content of that anatomy alone, 1 how files are stored
REACH_AROUND = 24  # voxels of an abdomen beside the frame in which the pancreas's vessels and stranded fat may lie
FIRST_ID = {"train": 0, "validation": 600, "test": 800}  # far enough apart that ids stay unique
LAST_ID = 999
BLUR = (0.8, 0.8, 0.4)  # voxels: the scanner's point spread
GRAIN = (0.6, 0.6, 0.3)  # voxels: how far its noise is correlated


@dataclass(frozen=True)
class DrawnCase:
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


def draw_case(split: str, index: int, *, seed: int = 0, kind: str = "pancreas") -> DrawnCase:
    """Draw case ``index`` of ``split`` (train, validation or test); the same arguments give the same case.

    ``kind`` is one of `bench.choices.DEMOS`; the cases of the two have nothing in common.

    Raises ValueError when the split has no such index.
    """
    check_index(split, index)
    subtype = index % SUBTYPES
    if kind == "abdomen":
        rng = case_rng(split, index, seed, ABDOMEN_STREAM)
        image, labels = _abdomen(subtype, index, rng)
    else:
        rng = case_rng(split, index, seed)
        grid = Grid(sides(SMALLEST, LARGEST, rng), SPACING)
        image = draw_organs(grid, rng)
        labels = draw_pancreas(image, grid, draw_appearance(rng, subtype, index), rng)
    image = scipy.ndimage.gaussian_filter(image, BLUR)
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), GRAIN)
    image += np.float32(rng.uniform(7, 13) / noise.std()) * noise
    return DrawnCase(f"{FIRST_ID[split] + index:03d}", subtype, image, labels, SPACING)


def check_index(split: str, index: int) -> None:
    """Raise ValueError when ``split`` has no such case."""
    last = min([first for first in FIRST_ID.values() if first > FIRST_ID[split]], default=LAST_ID + 1)
    if not 0 <= index < last - FIRST_ID[split]:
        raise ValueError(f"{split} has cases 0 to {last - FIRST_ID[split] - 1}, not {index}")


def sides(smallest: Shape, largest: Shape, rng: np.random.Generator) -> Shape:
    """Draw the voxel counts of a volume between two, each along its own axis."""
    x, y, z = (int(rng.integers(low, high + 1)) for low, high in zip(smallest, largest, strict=True))
    return x, y, z


def _abdomen(subtype: int, index: int, rng: np.random.Generator) -> tuple[Field, NDArray[np.uint8]]:
    """A whole body, before blur and noise, and its labels: the same anatomy around the pancreas in a larger volume."""
    shape, inner = sides(ABDOMEN_SMALLEST, ABDOMEN_LARGEST, rng), sides(SMALLEST, LARGEST, rng)
    free = np.subtract(shape, inner)
    corner = np.round(free * rng.uniform((0.46, 0.46, 0.4), (0.54, 0.54, 0.7))).astype(int)
    frame = _millimetres(inner)
    grid = Grid(shape, SPACING, frame, _millimetres(-corner))
    image = draw_organs(grid, rng)
    draw_body(image, grid, rng)
    # The pancreas's noise fields are many; they are only drawn where it may reach.
    low, high = np.maximum(corner - REACH_AROUND, 0), np.minimum(corner + inner + REACH_AROUND, shape)
    part = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    near = image[part].copy()
    around = Grid(near.shape, SPACING, frame, _millimetres(low - corner))
    labels = np.zeros(shape, np.uint8)
    labels[part] = draw_pancreas(near, around, draw_appearance(rng, subtype, index), rng)
    image[part] = near
    return image, labels


def _millimetres(voxels: Sequence[int] | NDArray[np.int_]) -> tuple[float, float, float]:
    x, y, z = (float(n * step) for n, step in zip(voxels, SPACING, strict=True))
    return x, y, z
