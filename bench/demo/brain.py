"""One made-up case of the head's MRI, two images of it, drawn from its seed alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from bench.demo.case import FIRST_ID, case_rng, check_index, sides
from bench.demo.grid import Field, Grid, Mask

CHANNELS = ("T1c", "FLAIR")  # T1-weighted after contrast agent, and T2-weighted without the signal of free fluid
LABELS: Mapping[str, int] = {"background": 0, "edema": 1, "tumour without enhancement": 2, "enhancing tumour": 3}
REGIONS: Mapping[str, tuple[int, ...]] = {
    "whole tumour": (1, 2, 3),
    "tumour core": (2, 3),
    "enhancing tumour": (3,),
}
"""Nested regions and their labels, as nnU-Net numbers those of the BraTS challenge."""
TASK: Mapping[str, Any] = {
    "name": "brain tumour",
    "channels": list(CHANNELS),
    "labels": dict(LABELS),
    "structures": {name: {"labels": list(labels)} for name, labels in REGIONS.items()},
    "regions": [{"structure": name, "label": labels[0]} for name, labels in REGIONS.items()],
    "foreground_ml": [3.0, 200.0],
}
"""What a network of these cases is for, as its checkpoint carries it and a task file may say it."""
WINDOW = (0.0, 1000.0)  # intensities between which all tissue lies, in both images

SPACING = (1.8, 1.8, 2.0)
SMALLEST, LARGEST = (80, 90, 72), (90, 96, 84)
STREAM = 3  # of random numbers, as in `bench.demo.case`
BLUR = (0.7, 0.7, 0.6)  # voxels
INSIDE = 0.84  # of the head's radius lies the brain's surface

# Signal in T1c and FLAIR, in the units of `WINDOW`.
AIR = (0.0, 0.0)
SCALP = (760.0, 560.0)
SKULL = (90.0, 70.0)
FLUID = (170.0, 90.0)
GREY = (400.0, 470.0)
WHITE = (510.0, 390.0)
BLOOD = (860.0, 300.0)
EDEMA = (-80.0, 260.0)  # added to that of the tissue
NECROSIS = (270.0, 430.0)
ENHANCING = (810.0, 540.0)


@dataclass(frozen=True)
class DrawnHead:
    """Both images and the truth.

    ``images`` are in the order of `CHANNELS`, ``labels`` have the values of `LABELS`, all ``[x, y, z]``; ``spacing``
    is in mm.
    """

    id: str
    images: tuple[Field, Field]
    labels: NDArray[np.uint8]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Anatomy:
    """Both images ``[2, x, y, z]`` before blur and noise, and where brain (without its fluid) and white matter are."""

    images: Field
    brain: Mask
    white: Mask


def draw_head(split: str, index: int, *, seed: int = 0) -> DrawnHead:
    """Draw case ``index`` of ``split`` (train, validation or test); the same arguments give the same case.

    Raises ValueError when the split has no such index.
    """
    check_index(split, index)
    rng = case_rng(split, index, seed, STREAM)
    grid = Grid(sides(SMALLEST, LARGEST, rng), SPACING)
    centre = grid.extent * (0.5, 0.5, 0.46) + rng.normal(0, 1.5, 3)
    semi_axes = grid.extent * (0.46, 0.47, 0.50) * rng.uniform(0.95, 1.03, 3)
    anatomy = _draw_anatomy(grid, centre, semi_axes, rng)
    labels = _draw_tumour(anatomy, grid, centre, semi_axes, rng)
    images = (_scanned(anatomy.images[0], grid, rng), _scanned(anatomy.images[1], grid, rng))
    return DrawnHead(f"{FIRST_ID[split] + index:03d}", images, labels, SPACING)


def _draw_anatomy(
    grid: Grid, centre: NDArray[np.float64], semi_axes: NDArray[np.float64], rng: np.random.Generator
) -> Anatomy:
    radius = grid.radius(centre.tolist(), semi_axes.tolist())
    folds = grid.noise(rng, 11.0)
    images = np.zeros((2, *grid.shape), np.float32)
    brain: Mask = radius < INSIDE + 0.02 * folds
    white: Mask = radius < 0.69 + 0.07 * folds
    for where, signal in ((radius < 1, SCALP), (radius < 0.93, SKULL), (radius < 0.87, FLUID), (brain, GREY)):
        _paint(images, where, signal, rng)
    _paint(images, white, WHITE, rng)
    nuclei = _pair(grid, centre, (21, 2, -6), (9, 15, 10), rng)
    _paint(images, nuclei, GREY, rng)
    ventricles = _pair(grid, centre, (8, -2, 6), (6, 25, 11), rng)
    around = _pair(grid, centre, (8, -2, 6), (10, 29, 15), rng)
    _paint(images, around & brain & (grid.noise(rng, 9.0) > 0.7), (470.0, 580.0), rng)  # white matter of the old
    _paint(images, ventricles, FLUID, rng)
    _paint(images, _pair(grid, centre, (8, 12, 4), (3, 7, 3), rng), BLOOD, rng)  # choroid plexus
    x, _, z = grid.axes()
    falx = (abs(x - centre[0]) < 1.7) & (radius > 0.62) & (radius < 0.89) & (z > centre[2])
    _paint(images, falx, BLOOD, rng)
    images += 14 * grid.noise(rng, 4.0) * (radius < 1)
    return Anatomy(images, brain & ~ventricles & ~falx, white)


def _pair(
    grid: Grid,
    centre: NDArray[np.float64],
    place: tuple[float, float, float],
    semi_axes: tuple[float, float, float],
    rng: np.random.Generator,
) -> Mask:
    """Two ellipsoids to the right and left of the middle; all in mm."""
    inside = np.zeros(grid.shape, bool)
    for side in (-1, 1):
        middle = centre + np.multiply(place, (side, 1, 1)) + rng.normal(0, 0.8, 3)
        inside |= grid.radius(middle.tolist(), np.multiply(semi_axes, rng.uniform(0.85, 1.2, 3)).tolist()) < 1
    return inside


def _paint(images: Field, where: Mask, signal: tuple[float, float], rng: np.random.Generator) -> None:
    for image, value in zip(images, signal, strict=True):
        image[where] = value + rng.normal(0, 12)


def _draw_tumour(
    anatomy: Anatomy,
    grid: Grid,
    centre: NDArray[np.float64],
    semi_axes: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Paint a tumour into both images; returns its labels, whose regions are nested by construction."""
    direction = rng.normal(0, 1, 3)
    direction /= np.linalg.norm(direction)
    seat = centre + semi_axes * INSIDE * rng.uniform(0.35, 0.72) * direction
    reach = float(rng.uniform(15, 27))
    depth = _depth(grid, seat, reach, rng) + 2.4 * grid.noise(rng, 14.0) + 1.2 * grid.noise(rng, 6.0)
    depth -= np.where(anatomy.white, 0, 4).astype(np.float32)  # edema spreads along white matter
    inner = max(reach * float(rng.uniform(0.5, 0.7)), 9.5)
    deep = _depth(grid, seat + rng.normal(0, 1.5, 3), inner, rng) + 1.1 * grid.noise(rng, 8.0)
    rim = rng.uniform(3.2, 6.0) * (1 + 0.35 * grid.noise(rng, 10.0))
    core = anatomy.brain & (deep > 0)
    whole = anatomy.brain & ((depth > 0) | core)
    enhancing = core & (deep < rim)

    spread = rng.uniform(0.55, 1.0) * np.clip(0.5 + depth / 7, 0.5, 1)  # it fades towards its border
    uptake = rng.uniform(0.55, 1.0) * np.clip(1 + 0.25 * grid.noise(rng, 7.0), 0.4, 1.3)
    mottle = grid.noise(rng, 5.0)
    for image, added, necrosis, bright in zip(anatomy.images, EDEMA, NECROSIS, ENHANCING, strict=True):
        image[whole] += added * spread[whole]
        image[core] = necrosis + rng.normal(0, 35) + 25 * mottle[core]
        image[enhancing] += uptake[enhancing] * (bright - image[enhancing])
    labels: NDArray[np.uint8] = whole.astype(np.uint8) + core + enhancing
    return labels


def _depth(grid: Grid, seat: NDArray[np.float64], reach: float, rng: np.random.Generator) -> Field:
    """How deep in an ellipsoid about ``reach`` wide a voxel lies, in mm; below 0 outside."""
    semi_axes = reach * rng.uniform(0.8, 1.2, 3)
    depth: Field = np.float32(reach) * (1 - grid.radius(seat.tolist(), semi_axes.tolist()))
    return depth


def _scanned(image: Field, grid: Grid, rng: np.random.Generator) -> Field:
    """As a scanner would show it: blurred, in a contrast and a scale of its own, shaded, and with Rician noise."""
    top = np.float32(WINDOW[1])
    signal = np.clip(scipy.ndimage.gaussian_filter(image, BLUR) / top, 0, None) ** np.float32(rng.uniform(0.85, 1.2))
    signal *= top * np.float32(rng.uniform(0.7, 1.0)) * np.exp(np.float32(0.1) * grid.noise(rng, 80.0))
    sigma = np.float32(rng.uniform(14, 28))
    real, imaginary = (sigma * rng.standard_normal(grid.shape, dtype=np.float32) for _ in range(2))
    scanned: Field = np.hypot(signal + real, imaginary)
    return scanned
