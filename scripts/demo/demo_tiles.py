"""Tiles cut from the demo's made-up cases, as the network takes them."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.demo import draw_case
from bench.imports import environment

TILE = 64
HU_LIMIT = 1000.0


@dataclass(frozen=True)
class Volume:
    """A case ready for the network: intensities in [0, 1] as float16 and labels as uint8, ``[x, y, z]``."""

    image: NDArray[np.float16]
    labels: NDArray[np.uint8]
    subtype: int
    lesion: NDArray[np.int64]  # [N, 3], voxel indices
    pancreas: NDArray[np.int64]  # [N, 3], voxel indices of the whole pancreas


@dataclass(frozen=True)
class Batch:
    """Tiles: ``image`` [B, 1, 64, 64, 64], ``labels`` [B, 64, 64, 64] and ``subtype`` [B]."""

    image: Tensor
    labels: Tensor
    subtype: Tensor


def load_volume(index: int, *, split: str, seed: int) -> Volume:
    """Draw a case and prepare it for the network."""
    case = draw_case(split, index, seed=seed)
    image = (np.clip(case.image, -HU_LIMIT, HU_LIMIT) + HU_LIMIT) / (2 * HU_LIMIT)
    lesion, pancreas = np.argwhere(case.labels == 2), np.argwhere(case.labels > 0)
    return Volume(image.astype(np.float16), case.labels, case.subtype, lesion, pancreas)


def load_volumes(split: str, count: int, seed: int) -> list[Volume]:
    """Draw the first ``count`` cases of a split, two at a time."""
    os.environ.update(environment())
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(load_volume, split=split, seed=seed), range(count), chunksize=4))


def crop(volume: Volume, centre: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut the tile nearest ``centre`` that stays inside the volume; a short axis is padded at random."""
    image = torch.zeros(TILE, TILE, TILE)
    labels = torch.zeros(TILE, TILE, TILE, dtype=torch.int64)
    source, target = [], []
    for size, middle in zip(volume.labels.shape, centre, strict=True):
        count = min(size, TILE)
        start = int(np.clip(middle - TILE // 2, 0, size - count))
        place = int(rng.integers(0, TILE - count + 1))
        source.append(slice(start, start + count))
        target.append(slice(place, place + count))
    image[tuple(target)] = torch.from_numpy(volume.image[tuple(source)]).float()
    labels[tuple(target)] = torch.from_numpy(volume.labels[tuple(source)]).long()
    return image, labels


def draw_batch(volumes: list[Volume], count: int, rng: np.random.Generator) -> Batch:
    """Draw tiles near the lesion (a half), on the pancreas (most others) or anywhere, flipped at random."""
    images, labels, subtypes = [], [], []
    for _ in range(count):
        volume = volumes[int(rng.integers(len(volumes)))]
        choice = rng.random()
        if choice < 0.95:
            inside = volume.lesion if choice < 0.5 else volume.pancreas
            centre = inside[int(rng.integers(len(inside)))] + rng.integers(-14, 15, 3)
        else:
            centre = rng.integers(0, volume.labels.shape)
        image, label = crop(volume, centre, rng)
        flips = [axis for axis in range(3) if rng.random() < 0.5]
        images.append(image.flip(flips))
        labels.append(label.flip(flips))
        subtypes.append(volume.subtype)
    stacked = torch.stack(images)[:, None].contiguous(memory_format=torch.channels_last_3d)
    return Batch(stacked, torch.stack(labels), torch.tensor(subtypes))
