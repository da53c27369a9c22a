"""Masks of the built-in task, as most tests have them."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bench.data.space import Space
from bench.data.volume import MaskValues, read_mask
from models.task import PANCREAS

VALUES = MaskValues.of(PANCREAS)


def read_labels(path: Path, space: Space | None = None) -> NDArray[Any]:
    """A mask whose values are background, pancreas and lesion."""
    return read_mask(path, space, VALUES)
