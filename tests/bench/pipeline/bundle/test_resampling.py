"""MONAI's Spacingd and its inverse axis by axis, against what MONAI itself gives."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bench.pipeline import resampling as matrices
from bench.pipeline.bundle import resampling
from bench.pipeline.bundle.resampling import axis_by_axis

data = pytest.importorskip("monai.data", reason="monai is not installed")
transforms = pytest.importorskip("monai.transforms")
functional = pytest.importorskip("monai.transforms.spatial.functional")


STRAIGHT = np.eye(3)


def image(shape, mm, turn=STRAIGHT, seed=0):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(mm), (-30.5, 12, 7)
    values = np.random.default_rng(seed).normal(0, 100, (2, *shape)).astype(np.float32)
    return data.MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine))


def there_and_back(volume, spacing, nearest: bool):
    """The volume resampled, its affine, and a volume on the new grid brought back."""
    case = spacing({"image": volume})
    on_new = case["image"].clone()
    invert = transforms.Invertd("pred", spacing, orig_keys="image", nearest_interp=nearest)
    back = invert({"image": case["image"], "pred": on_new})["pred"]
    return case["image"].as_tensor(), case["image"].affine, back.as_tensor()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 24)] * 3),
    mm=st.tuples(*[st.sampled_from([0.7, 1.0, 1.3, 4.0])] * 3),
    wanted=st.tuples(*[st.sampled_from([0.8, 1.0, 1.5, 3.0])] * 3),
    mode=st.sampled_from(["bilinear", "nearest"]), padding=st.sampled_from(["border", "zeros", "reflection"]),
    corners=st.booleans(), dtype=st.sampled_from([np.float64, np.float32]), nearest=st.booleans(),
    flipped=st.booleans(), diagonal=st.booleans(),
)  # fmt: skip
@example(  # the one new voxel along the last axis lies beyond the old ones
    shape=(2, 2, 2), mm=(0.7, 0.7, 0.7), wanted=(0.8, 0.8, 3.0), mode="bilinear", padding="zeros", corners=True,
    dtype=np.float64, nearest=False, flipped=False, diagonal=False,
)  # fmt: skip
def test_spacing_and_its_inverse_are_monais(
    shape, mm, wanted, mode, padding, corners, dtype, nearest, flipped, diagonal
):
    volume = image(shape, mm, np.diag([-1.0, 1, 1]) if flipped else STRAIGHT)
    spacing = transforms.Spacingd(
        "image", wanted, diagonal=diagonal, mode=mode, padding_mode=padding, align_corners=corners, dtype=dtype
    )
    theirs = there_and_back(volume, spacing, nearest)
    with axis_by_axis():
        ours = there_and_back(volume, spacing, nearest)
    bound = 1e-4 if dtype == np.float64 else 1e-2  # of values up to 400; MONAI's own sums are float32 there
    for own, their in zip(ours, theirs, strict=True):
        assert own.shape == their.shape
        wrong = ~torch.isclose(own.double(), their.double(), rtol=0, atol=bound)
        # Which of two neighbours is nearest, where a point lies in the middle, is decided by the last bit.
        assert wrong.float().mean() <= (0 if "nearest" not in mode and not nearest else 0.02)


def test_turned_grids_are_left_to_monai(monkeypatch):
    monkeypatch.setattr(resampling, "resample", lambda *_: pytest.fail("a turned grid has no axes of its own"))
    volume = image((9, 8, 7), (1, 1, 2), Rotation.from_euler("z", 20, degrees=True).as_matrix())
    spacing = transforms.Spacingd("image", (1.5, 1.5, 1.5), diagonal=True)
    theirs = spacing({"image": volume})["image"]
    with axis_by_axis():
        ours = spacing({"image": volume})["image"]
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())


def test_monai_is_left_as_it_was():
    before = functional.AffineTransform
    with axis_by_axis():
        assert functional.AffineTransform is not before
    with pytest.raises(ValueError, match="broken"), axis_by_axis():
        raise ValueError("broken")
    assert functional.AffineTransform is before


def test_labels_are_taken_and_not_summed(monkeypatch):
    monkeypatch.setattr(matrices.torch, "tensordot", lambda *_: pytest.fail("sums of one voxel"))
    spacing = transforms.Spacingd("image", (0.5, 0.5, 1.5), mode="nearest")
    with axis_by_axis():
        case = spacing({"image": image((9, 8, 7), (1, 1, 2))})["image"]
    assert set(case.unique().tolist()) <= set(image((9, 8, 7), (1, 1, 2)).unique().tolist())
