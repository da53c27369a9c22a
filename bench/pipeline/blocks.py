"""Parts of a volume that are worked on one after the other, so that what is read and written stays in the cache."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 64  # along the first axis, along which files are stored: at least a cache line of any type
_BLOCK = 2**14  # voxels: 64 KiB as float32
_SLAB = 2**18  # voxels: PyTorch works on them with several threads


def slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of the first axis of a C-contiguous volume."""
    rows = max(1, _SLAB // (shape[1] * shape[2]))
    for x in range(0, shape[0], rows):
        yield slice(x, x + rows)


def columns(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of the second axis; with ROWS of the first one they make blocks of about 16 Ki voxels.

    A copy from one order of the axes to the other then finds the lines it has begun in the cache still.
    """
    step = max(1, _BLOCK // (ROWS * shape[2]))
    for y in range(0, shape[1], step):
        yield slice(y, y + step)


def copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy a volume into another whose axes may lie in another order in memory."""
    for x in range(0, source.shape[0], ROWS):
        for y in columns(source.shape):
            np.copyto(target[x : x + ROWS, y], source[x : x + ROWS, y])
