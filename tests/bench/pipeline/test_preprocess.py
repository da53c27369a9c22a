"""Normalising in slabs against the plain formula, bit by bit."""

import numpy as np
import pytest
import torch

from bench.pipeline.preprocess import normalise


@pytest.mark.parametrize("window", [(-1000.0, 1000.0), (-160.3, 240.7)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("threads", [1, 2])
def test_as_the_plain_formula(window, order, threads):
    low, high = window
    hu = np.random.default_rng(0).normal(0, 700, (2, 71, 90, 64)).astype(np.float32)  # more than one slab
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for region in (np.s_[:, :, :, :], np.s_[1:, 3:70, 20:77, 1:60]):
        intensities = np.array(hu, order=order)
        normalised = normalise(torch.from_numpy(intensities[region]), window)
        assert normalised.is_contiguous()
        assert torch.equal(normalised, (torch.from_numpy(hu)[region].clamp(low, high) - low) / (high - low))
        np.testing.assert_array_equal(intensities, hu, "the image's own voxels are left alone")
    torch.set_num_threads(before)
