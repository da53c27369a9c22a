"""Parts of a volume that are worked on one after the other, so that what is read and written stays in the cache."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 64  # along the first axis, along which files are stored: at least a cache line of any type
_BLOCK = 2**14  # voxels: 64 KiB as float32
_WHOLE = 2**20  # voxels: so few stay in the last cache, and each block of them would cost Python some 0.1 ms
_SLAB = 2**18  # voxels: PyTorch works on them with several threads


def slabs(shape: tuple[int, ...], voxels: int = _SLAB) -> Iterator[slice]:
    """Ranges of the first axis of a C-contiguous volume, of about so many voxels each."""
    rows = max(1, voxels // (shape[1] * shape[2]))
    for x in range(0, shape[0], rows):
        yield slice(x, x + rows)


def rows(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of the first axis; one for a small volume."""
    step = shape[0] if math.prod(shape) <= _WHOLE else _ROWS
    for x in range(0, shape[0], step):
        yield slice(x, x + step)


def columns(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of the second axis; with `rows` they make blocks of about 16 Ki voxels, or one of a small volume.

    A copy from one order of the axes to the other then finds the lines it has begun in the cache still.
    """
    step = shape[1] if math.prod(shape) <= _WHOLE else max(1, _BLOCK // (_ROWS * shape[2]))
    for y in range(0, shape[1], step):
        yield slice(y, y + step)


def copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy a volume into another whose axes may lie in another order in memory."""
    for x in rows(source.shape):
        for y in columns(source.shape):
            np.copyto(target[x, y], source[x, y])
