"""Slabs and blocks cover a volume once."""

import numpy as np
import pytest

from bench.data import blocks

SHAPES = [(1, 1, 1), (200, 7, 3), (65, 90, 130), (3, 5, 70_000), (130, 2, 600)]


@pytest.mark.parametrize("shape", SHAPES)
def test_slabs_cover_the_first_axis_once(shape):
    seen = np.zeros(shape, np.uint8)
    for rows in blocks.slabs(shape):
        seen[rows] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("source", "target"), ["CF", "FC", "CC"])
def test_copies_between_orders_of_the_axes(shape, source, target):
    volume = np.array(np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8), order=source)
    copied = np.full(shape, 255, np.uint8, order=target)
    blocks.copy(volume, copied)
    np.testing.assert_array_equal(copied, volume)
    assert copied.flags[f"{target}_CONTIGUOUS"]
