"""Which part of a volume the network is run on."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.pipeline.tiles import Box

BODY_ABOVE_HU = -500.0  # half-way between air and soft tissue
MARGIN_MM = 10.0
_STRIDE = 4  # the body is large: every fourth voxel of an axis finds its box to within the margin


def whole(intensities: NDArray[np.float32], _spacing_mm: tuple[float, ...]) -> Box:
    """The full volume."""
    return everything(intensities.shape)


def body(intensities: NDArray[np.float32], spacing_mm: tuple[float, ...]) -> Box:
    """Bounding box of the largest connected body of tissue plus a margin; the full volume where there is none."""
    coarse = intensities[::_STRIDE, ::_STRIDE, ::_STRIDE] > BODY_ABOVE_HU
    components, count = ndimage.label(coarse)
    if count == 0:
        return everything(intensities.shape)
    largest = int(np.bincount(components.ravel())[1:].argmax())
    box = ndimage.find_objects(components)[largest]
    bounds = []
    for side, n, spacing in zip(box, intensities.shape, spacing_mm, strict=True):
        margin = _STRIDE + round(MARGIN_MM / spacing)
        bounds.append(slice(max(side.start * _STRIDE - margin, 0), min(side.stop * _STRIDE + margin, n)))
    x, y, z = bounds
    return x, y, z


ROIS: Mapping[str, Callable[[NDArray[np.float32], tuple[float, ...]], Box]] = {"none": whole, "body": body}


def everything(shape: tuple[int, ...]) -> Box:
    """All of a volume."""
    x, y, z = (slice(0, n) for n in shape)
    return x, y, z
