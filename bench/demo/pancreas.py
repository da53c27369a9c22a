"""The pancreas, its duct, its veins and the lesion in it."""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from bench.demo.appearance import Appearance
from bench.demo.grid import Field, Grid, Mask

REACH = 24.0  # mm around the gland's axis within which anything is drawn
SAMPLES = 240  # points along the axis: well under a voxel apart
RIM = 1.5  # mm

# The axis from head to tail, as shares of the extent: up, to the left, and arched over the spine.
AXIS = ((0.17, 0.52, 0.22), (0.32, 0.42, 0.38), (0.50, 0.38, 0.50), (0.68, 0.46, 0.60), (0.84, 0.60, 0.70))
RADII = (11.5, 9.5, 7.5, 8.5, 6.5)  # mm at the points of the axis


@dataclass(frozen=True)
class Neighbourhood:
    """The voxels within reach of the gland's axis.

    ``voxels`` are flat indices into the volume, ``points`` their places in mm ``[N, 3]``, ``distance``
    their distances from the axis in mm ``[N]`` and ``along`` the places of the nearest axis points, from
    0 at the head to 1 at the tail ``[N]``.
    """

    voxels: NDArray[np.intp]
    points: NDArray[np.float64]
    distance: NDArray[np.float64]
    along: NDArray[np.float64]

    @classmethod
    def of(cls, axis: NDArray[np.float64], grid: Grid) -> "Neighbourhood":
        """Find the voxels of ``grid`` within reach of ``axis``, points in mm ``[SAMPLES, 3]``."""
        near = np.ones(grid.shape, bool)
        for coordinate, low, high in zip(grid.axes(), axis.min(0) - REACH, axis.max(0) + REACH, strict=True):
            near &= (coordinate > low) & (coordinate < high)
        candidates = np.flatnonzero(near)
        places = np.stack(np.unravel_index(candidates, grid.shape), axis=1) * np.asarray(grid.spacing) + grid.origin
        distance, nearest = scipy.spatial.cKDTree(axis).query(places, distance_upper_bound=REACH)
        kept = np.isfinite(distance)
        return cls(candidates[kept], places[kept], distance[kept], nearest[kept] / (len(axis) - 1))


def draw_pancreas(image: Field, grid: Grid, appearance: Appearance, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint the pancreas, the veins behind it and a lesion into ``image`` (HU) ``[x, y, z]``.

    Returns the labels ``[x, y, z]``: 0 background, 1 pancreas, 2 lesion.
    """
    knots = np.linspace(0, 1, len(AXIS))
    sway = rng.normal(0, (0.025, 0.03, 0.03), (len(AXIS), 3)) + rng.normal(0, 0.02, 3)
    axis = scipy.interpolate.CubicSpline(knots, grid.extent * (np.asarray(AXIS) + sway))(np.linspace(0, 1, SAMPLES))
    around = Neighbourhood.of(axis, grid)
    seat = float(rng.uniform(0.15, 0.75))  # of the lesion, along the axis
    radii = np.asarray(RADII) * rng.uniform(0.9, 1.15) * rng.normal(1, 0.05, len(RADII))
    radius = scipy.interpolate.CubicSpline(knots, radii)(around.along)
    upstream = 1 / (1 + np.exp(-(around.along - seat) / 0.04))
    radius *= 1 - appearance.atrophy * upstream
    depth = radius - around.distance  # mm under the surface
    depth += 1.3 * _at(grid.noise(rng, 6.0), around) + 0.5 * _at(grid.noise(rng, 3.0), around)  # lobules

    flat = image.reshape(-1)
    tissue = rng.uniform(88, 112)
    values = flat[around.voxels]
    _paint_fat(values, depth, appearance, _at(grid.noise(rng, 5.0), around))
    _paint_veins(values, around, axis, appearance, rng)
    gland = depth > 0
    lobules = np.clip(_at(grid.noise(rng, 3.5), around) - 0.3, 0, 1.5)
    values[gland] = tissue - appearance.infiltration * lobules[gland]
    duct = around.distance < np.where(upstream > 0.5, appearance.duct, 0.8)
    values[duct & gland] = 10
    lesion = _paint_lesion(values, around, axis[round(seat * (SAMPLES - 1))], tissue, appearance, grid, rng)
    chalk = _at(grid.noise(rng, 2.2), around) > _threshold(appearance.calcification)
    values[chalk & (lesion | (gland & (around.distance < 6)))] = 450
    flat[around.voxels] = values
    labels = np.zeros(image.size, np.uint8)
    labels[around.voxels] = np.where(lesion, 2, gland)
    return labels.reshape(grid.shape)


def _at(field: Field, around: Neighbourhood) -> Field:
    return np.take(field, around.voxels)


def _threshold(share: float) -> float:
    """The level that about ``share`` of standard normal values exceed."""
    return float(np.sqrt(-2 * np.log(2 * share))) if share > 0 else np.inf


def _paint_fat(values: Field, depth: NDArray[np.float64], appearance: Appearance, mottle: Field) -> None:
    """Strand the fat within 9 mm of the surface; only fat, so that no organ changes."""
    strength = np.clip(1 + depth / 9, 0, 1) * np.clip(0.6 + 0.5 * mottle, 0, 1.5)
    fat = values < -60
    values[fat] += (appearance.stranding * strength)[fat]


def _paint_veins(
    values: Field, around: Neighbourhood, axis: NDArray[np.float64], appearance: Appearance, rng: np.random.Generator
) -> None:
    """Paint the splenic vein behind body and tail and the mesenteric vein under the neck."""
    blood = rng.uniform(150, 200)
    wide = 1 + appearance.engorgement
    neck = axis[round(0.42 * SAMPLES)]
    behind = np.asarray([0, 9.5, 0])
    splenic = axis[round(0.40 * SAMPLES) :: 2] + behind
    distance, _ = scipy.spatial.cKDTree(splenic).query(around.points, distance_upper_bound=8.0)
    values[distance < 3.0 * wide] = blood
    across = np.hypot(around.points[:, 0] - neck[0], around.points[:, 1] - neck[1] - behind[1])
    values[(across < 4.0 * wide) & (around.points[:, 2] < neck[2])] = blood


def _paint_lesion(
    values: Field,
    around: Neighbourhood,
    seat: NDArray[np.float64],
    tissue: float,
    appearance: Appearance,
    grid: Grid,
    rng: np.random.Generator,
) -> Mask:
    """Paint a lobulated lesion near ``seat`` (mm) and return where it is, ``[N]``."""
    semi_axes = rng.uniform(7.5, 12.5) * rng.uniform(0.85, 1.15, 3)
    offsets = (around.points - seat - rng.normal(0, 2.0, 3)) / semi_axes
    size = float(semi_axes.mean())
    depth = size * (1 - np.sqrt((offsets**2).sum(1))) + 0.8 * _at(grid.noise(rng, 5.0), around)
    inside: Mask = depth > 0
    mottle = appearance.texture * _at(grid.noise(rng, 2.5), around)
    attenuation = tissue + appearance.lesion + mottle + np.where(depth < RIM, appearance.rim, 0)
    values[inside] = attenuation[inside]
    return inside
