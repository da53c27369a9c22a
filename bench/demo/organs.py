"""What lies around the pancreas: fat, soft organs, bowel with gas, spine and great vessels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.demo.grid import Field, Grid

FAT = -100.0
GAS = -900.0


@dataclass(frozen=True)
class Ellipsoid:
    """A solid of one attenuation (HU); ``centre`` and ``semi_axes`` are shares of the volume's extent."""

    centre: tuple[float, float, float]
    semi_axes: tuple[float, float, float]
    attenuation: float


SOLID_ORGANS = (
    Ellipsoid((-0.05, 0.15, 0.75), (0.28, 0.50, 0.50), 105),  # liver
    Ellipsoid((1.02, 0.75, 0.80), (0.14, 0.30, 0.28), 120),  # spleen
    Ellipsoid((1.00, 1.00, 0.25), (0.16, 0.24, 0.30), 150),  # left kidney
    Ellipsoid((0.00, 1.00, 0.15), (0.16, 0.24, 0.30), 150),  # right kidney
)


def draw_organs(grid: Grid, rng: np.random.Generator) -> Field:
    """Draw the attenuation (HU) ``[x, y, z]`` of everything but the pancreas and its vessels."""
    image = FAT + 6 * grid.noise(rng, 9.0)
    mottle = grid.noise(rng, 5.0)
    for organ in SOLID_ORGANS:
        centre = grid.extent * (np.asarray(organ.centre) + rng.normal(0, 0.02, 3))
        semi_axes = grid.extent * organ.semi_axes * rng.uniform(0.9, 1.1, 3)
        box = grid.box(centre.tolist(), semi_axes.tolist())
        inside = grid.radius(centre.tolist(), semi_axes.tolist(), box) < 1
        image[box][inside] = organ.attenuation + rng.normal(0, 8) + 4 * mottle[box][inside]
    _draw_bowel(image, grid, rng)
    _draw_spine(image, grid, rng)
    return image


def _draw_bowel(image: Field, grid: Grid, rng: np.random.Generator) -> None:
    """Paint bowel loops in front of the pancreas into ``image``."""
    for _ in range(int(rng.integers(4, 8))):
        centre = grid.extent * (rng.uniform(0.2, 1.0), rng.uniform(-0.02, 0.2), rng.uniform(0.0, 1.0))
        draw_loop(image, grid, centre.tolist(), rng)


def draw_loop(image: Field, grid: Grid, centre: Sequence[float], rng: np.random.Generator) -> None:
    """Paint a bowel loop at ``centre`` (mm): gas gathers in front, because patients are scanned on their back."""
    semi_axes = rng.uniform((7, 6, 8), (14, 10, 20))
    box = grid.box(centre, semi_axes.tolist())
    loop = grid.radius(centre, semi_axes.tolist(), box)
    part = image[box]
    part[loop < 1] = 45 + rng.normal(0, 8)
    lumen = loop < 1 - 2.5 / semi_axes.min()
    part[lumen] = rng.uniform(0, 30)
    level = centre[1] + rng.uniform(-0.7, 0.3) * semi_axes[1]
    _, y, _ = grid.axes()
    part[lumen & (y[:, box[1]] < level)] = GAS


def _draw_spine(image: Field, grid: Grid, rng: np.random.Generator) -> None:
    """Paint vertebrae and the discs between them, the aorta and the inferior vena cava into ``image``."""
    width, depth, _ = grid.extent
    middle = width * rng.uniform(0.45, 0.55)
    front = depth * rng.uniform(0.92, 0.98)
    _, _, z = grid.axes()
    body = grid.radius((middle, front + 14, 0), (19, 14, np.inf)) + np.zeros_like(z)
    disc = ((z + rng.uniform(0, 32)) % 32 < 7) & (body < 1)
    image[body < 1] = 480
    image[body < 0.87] = 190
    image[disc] = 90
    blood = rng.uniform(150, 220)
    aorta = grid.radius((middle + 9, front - 8, 0), (7.5, 7.5, np.inf)) + np.zeros_like(z)
    image[aorta < 1] = blood + 15
    if rng.random() < 0.4:  # chalk in the wall, so that calcification alone does not tell the subtype
        image[(aorta < 1) & (aorta > 0.85) & (grid.noise(rng, 6.0) > 1.5)] = 600
    cava = grid.radius((middle - 13, front - 7, 0), (9, 6.5, np.inf)) + np.zeros_like(z)
    image[cava < 1] = blood - 25
