"""Labels of logits that come in parts, against those of all logits at once, resampled by nnU-Net's own functions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from bench.pipeline import label_map
from bench.pipeline.label_map import Labels, ResampledLabels, choose
from bench.pipeline.resampling import AxisMap, interpolated, sampled, spline, unchanged
from bench.pipeline.settings import Classes

SIDES = st.tuples(*[st.integers(1, 30)] * 3)


def smooth(classes: int, shape: tuple[int, ...], seed: int, sigma: float) -> torch.Tensor:
    """Logits in float16, each class with blobs of its own."""
    noise = np.random.default_rng(seed).normal(0, 1, (classes, *shape))
    blobs = np.stack([gaussian_filter(each, sigma) for each in noise]) if sigma else noise
    return torch.from_numpy(blobs / max(blobs.std(), 1e-6) * 8).half()


def resampled(logits: torch.Tensor, maps: list[AxisMap], precision: torch.dtype) -> torch.Tensor:
    """All of them by plain matrices in float64."""
    values = logits.double()
    for axis, each in enumerate(maps, 1):
        if each.matrix is not None:
            values = torch.tensordot(torch.from_numpy(each.matrix), values, ([1], [axis])).movedim(0, axis)
    return values.to(precision)


def labelled(logits: torch.Tensor, maps: list[AxisMap], classes: Classes, precision, slabs: list[int]) -> torch.Tensor:
    out = torch.full([each.new for each in maps], 255, dtype=torch.uint8)
    receiver, start = ResampledLabels(maps, classes, precision, out), 0
    for depth in slabs:
        part = logits[:, start : start + depth]
        if part.shape[1]:
            _, *sides = (slice(0, side) for side in part.shape[1:])
            receiver.receive((slice(start, start + part.shape[1]), *sides), part)
        start += depth
    return out


@settings(max_examples=60, deadline=None)
@given(
    old=SIDES, new=SIDES, classes=st.integers(1, 9), seed=st.integers(0, 99), sigma=st.sampled_from([0, 1, 3]),
    depth=st.integers(1, 12), kind=st.sampled_from(["spline", "torch", "separate", "plane"]), painted=st.booleans(),
)  # fmt: skip
def test_labels_are_those_of_all_logits_resampled(old, new, classes, seed, sigma, depth, kind, painted):
    maps = {
        "spline": lambda: [spline(a, b, 1) for a, b in zip(old, new, strict=True)],
        "torch": lambda: [interpolated(a, b, "linear") for a, b in zip(old, new, strict=True)],
        "separate": lambda: [sampled(old[0], new[0], 0), *(spline(old[i], new[i], 1) for i in (1, 2))],
        "plane": lambda: [unchanged(old[0]), spline(old[1], new[1], 1), spline(old[2], new[2], 0)],
    }[kind]()
    logits = smooth(classes, old, seed, sigma)
    meaning = Classes(tuple(range(classes)), tuple(reversed(range(classes))) if painted else None)
    precision = torch.float32 if kind == "torch" else torch.float16
    ours = labelled(logits, maps, meaning, precision, [depth] * (old[0] // depth + 1))
    exact = resampled(logits, maps, precision)
    expected = choose(exact, meaning, torch.empty(exact.shape[1:], dtype=torch.uint8))
    for at in torch.nonzero(ours != expected):  # only where rounding decides
        values = exact[:, *at].double()
        if painted:
            assert values.abs().min() < 1e-5
        else:
            assert values.max() - values[int(ours[tuple(at)])] <= 2e-3 * values.abs().max()
    assert (ours != expected).double().mean() <= (0.01 if ours.numel() > 1000 else 0.1)


def test_hardly_any_voxel_differs_where_structures_are_smooth():
    maps = [spline(a, b, 1) for a, b in ((40, 61), (37, 80), (50, 77))]
    logits, meaning = smooth(12, (40, 37, 50), 3, 2.5), Classes(tuple(range(12)), None)
    ours = labelled(logits, maps, meaning, torch.float16, [16, 16, 8])
    exact = resampled(logits, maps, torch.float16)
    assert (ours != exact.float().argmax(0)).float().mean() <= 1e-5
    assert len(ours.unique()) == 12


def test_most_voxels_are_labelled_without_resampling_them(monkeypatch):
    """Of a few large structures; the bound would otherwise be of no use."""
    seen = []
    interpolate = label_map._mean
    monkeypatch.setattr(
        label_map, "_mean", lambda corners, *weights: seen.append(len(corners)) or interpolate(corners, *weights)
    )
    z, y, x = np.mgrid[:80, :80, :80]
    ball = 20 - np.sqrt((z - 40.0) ** 2 + (y - 40) ** 2 + (x - 40) ** 2)
    logits = torch.from_numpy(np.stack([-ball, ball, *[np.full_like(ball, -50)] * 30])).half()
    maps = [spline(80, 120, 1)] * 3
    ours = labelled(logits, maps, Classes(tuple(range(32)), None), torch.float16, [32, 32, 16])
    expected = functional.interpolate(logits[None].float(), (120, 120, 120), mode="trilinear")[0].argmax(0)
    assert (ours != expected).float().mean() <= 1e-5
    assert sum(seen) < 0.5 * 2 * 10**3, "blocks times classes, of 32 x 10^3"


def test_labels_without_resampling():
    logits, out = smooth(4, (9, 8, 7), 0, 1), torch.full((9, 8, 7), 255, dtype=torch.uint8)
    receiver = Labels(Classes((0, 3, 1, 2), None), out)
    for box in ((slice(0, 5), slice(0, 8), slice(0, 7)), (slice(5, 9), slice(0, 3), slice(0, 7)),
                (slice(5, 9), slice(3, 8), slice(0, 7))):  # fmt: skip
        receiver.receive(box, logits[:, *box])
    assert torch.equal(out, torch.tensor([0, 3, 1, 2], dtype=torch.uint8)[logits.float().argmax(0)])


@pytest.mark.parametrize("order", [2, 3])
def test_sums_that_overshoot_have_no_bounds(order):
    assert spline(20, 31, order).pairs is None
    assert spline(20, 20, order).pairs is not None
