"""What an abdominal scan shows beyond the anatomy around the pancreas: more bowel, the body's wall, air around it."""

import numpy as np

from bench.demo.grid import Field, Grid
from bench.demo.organs import FAT, draw_loop

AIR = -1000.0
MUSCLE, SKIN = 60.0, 20.0
HALF_WIDTH, HALF_DEPTH = (84.0, 90.0), (74.0, 82.0)  # mm, of the body
FAT_UNDER_SKIN, WALL, SKIN_THICKNESS = (5.0, 10.0), (4.0, 7.0), 2.0  # mm
LOOPS = (14, 22)  # of bowel, below the pancreas


def draw_body(image: Field, grid: Grid, rng: np.random.Generator) -> None:
    """Paint bowel below the pancreas, the wall of muscle, the fat and the skin around all organs, and air outside.

    ``image`` is in HU, ``[x, y, z]``; what organs it holds end at the wall.
    """
    _draw_loops(image, grid, rng)
    half = np.asarray([rng.uniform(*HALF_WIDTH), rng.uniform(*HALF_DEPTH)])
    centre = (*(grid.extent[:2] / 2), 0.0)
    fat = rng.uniform(*FAT_UNDER_SKIN)
    wall = rng.uniform(*WALL)
    mottle = grid.noise(rng, 9.0)
    # From the outside of each layer inwards; each paints all that lies outside the next one's inner border.
    for depth, attenuation, texture in (
        (SKIN_THICKNESS + fat + wall, MUSCLE + rng.normal(0, 4), 4.0),
        (SKIN_THICKNESS + fat, FAT, 6.0),
        (SKIN_THICKNESS, SKIN, 0.0),
        (0.0, AIR, 0.0),
    ):
        outside = grid.radius(centre, (*(half - depth), np.inf))[:, :, 0] >= 1
        image[outside] = attenuation + texture * mottle[outside]


def _draw_loops(image: Field, grid: Grid, rng: np.random.Generator) -> None:
    """Paint loops of bowel that lie wholly below the anatomy around the pancreas, where the volume reaches so far."""
    bottom = grid.origin[2]
    for _ in range(int(rng.integers(*LOOPS))):
        place = rng.uniform((-0.2, -0.2), (1.2, 0.9)) * grid.extent[:2]
        draw_loop(image, grid, (*place, rng.uniform(bottom, min(bottom, -20.0) + 10)), rng)
