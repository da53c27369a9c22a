"""Matrices along the axes, against the functions that they stand for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bench.pipeline.resampling import interpolated, resample, sampled, spline, unchanged

SIDES = st.tuples(*[st.integers(1, 40)] * 3)


def volume(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (2, *shape)).astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(old=SIDES, new=SIDES, order=st.integers(0, 5), seed=st.integers(0, 99))
def test_splines_are_skimages(old, new, order, seed):
    transform = pytest.importorskip("skimage.transform")
    data = volume(old, seed)
    ours = resample(data, [spline(a, b, order) for a, b in zip(old, new, strict=True)], "channel").numpy()
    for channel, result in zip(data.numpy().astype(float), ours, strict=True):
        theirs = transform.resize(channel, new, order, mode="edge", anti_aliasing=False)
        np.testing.assert_allclose(result, theirs, rtol=1e-6, atol=1e-6 * abs(channel).max())


@settings(max_examples=40, deadline=None)
@given(old=SIDES, new=SIDES)
def test_linear_is_torchs(old, new):
    data = volume(old)
    ours = resample(data, [interpolated(a, b, "linear") for a, b in zip(old, new, strict=True)], "none")
    theirs = functional.interpolate(data[None], size=new, mode="trilinear")[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(old=st.integers(1, 200), new=st.integers(1, 200))
def test_nearest_neighbours(old, new):
    pairs = interpolated(old, new, "nearest-exact").pairs
    theirs = functional.interpolate(torch.arange(old).float()[None, None], size=new, mode="nearest-exact")[0, 0]
    assert pairs is not None
    np.testing.assert_array_equal(pairs.first, theirs.numpy())
    assert not pairs.share.any()
    assert sampled(old, new, 0).pairs is not None


def test_a_long_axis_is_cut_into_bands_that_lose_nothing():
    data = volume((3, 300, 5))
    ours = resample(data, [unchanged(3), spline(300, 451, 3), unchanged(5)], "none")
    whole = torch.tensordot(data.double(), torch.from_numpy(spline(300, 451, 3).matrix), ([2], [1])).movedim(-1, 2)
    torch.testing.assert_close(ours, whole.float(), rtol=0, atol=1e-6)


def test_slices_are_clipped_each_by_itself():
    data = torch.zeros(1, 2, 8, 8)
    data[0, 0, 4:], data[0, 1, 4:] = 1, 5
    ours = resample(data, [sampled(2, 4, 0), spline(8, 13, 3), unchanged(8)], "slice")
    assert ours[0, 0].max() == 1
    assert ours[0, 3].max() == 5
    assert resample(data, [unchanged(2), spline(8, 13, 3), unchanged(8)], "none")[0, 0].max() > 1


def test_nothing_to_do_gives_the_volume_itself():
    data = volume((3, 4, 5))
    assert resample(data, [unchanged(n) for n in (3, 4, 5)], "channel") is data
