"""Masks and images lie on each other where their affines say so, not where their shapes agree."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.data.space import Space, spacing_of, turned
from bench.data.volume import read_image, read_space, read_stored
from bench.errors import InputError
from tests.bench.data.headers import AFFINE, SHAPE, noise, save, truth
from tests.bench.values import read_labels

HERE = Space(SHAPE, AFFINE)


def refusal(path: Path, space: Space | None = HERE) -> str:
    with pytest.raises(InputError) as refused:
        read_labels(path, space)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


@pytest.mark.parametrize("seed", range(40))
def test_any_order_and_sign_of_axes_is_turned_onto_the_image(tmp_path, seed):
    """Also of oblique volumes, where the axes of the body say little about which axis is which."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * rng.uniform(0.5, 3, 3)
    affine[:3, 3] = rng.normal(0, 200, 3)
    order = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], axis=1)
    mask = nib.Nifti1Image(truth(), affine).as_reoriented(order)
    path = save(tmp_path / "m.nii.gz", np.asanyarray(mask.dataobj), mask.affine)
    labels = read_labels(path, Space(SHAPE, affine))
    np.testing.assert_array_equal(labels, truth())
    assert labels.flags.c_contiguous


def test_a_mask_on_the_grid_is_not_copied():
    labels, turn = truth(), HERE.turn_onto(HERE)
    assert np.shares_memory(turned(labels, turn), labels)


@pytest.mark.parametrize("apart", [AFFINE * 1e-7, AFFINE * 9e-6, np.full((4, 4), 1e-7) * [[1], [1], [1], [0]]])
def test_rounding_is_no_other_place(tmp_path, apart):
    np.testing.assert_array_equal(read_labels(save(tmp_path / "m.nii.gz", truth(), AFFINE + apart), HERE), truth())


def moved(**entries: float) -> np.ndarray:
    affine = AFFINE.copy()
    for at, change in entries.items():
        affine[int(at[1]), int(at[2])] += change
    return affine


@pytest.mark.parametrize(
    "affine", [moved(_03=0.01), moved(_23=2.5), moved(_00=0.001), moved(_22=-0.1), moved(_01=0.01), -AFFINE]
)
def test_a_mask_elsewhere_is_refused_with_both_affines(tmp_path, affine):
    message = refusal(save(tmp_path / "m.nii.gz", truth(), affine))
    assert "the mask does not lie on its image" in message
    assert "[-0.8 0 0 30; 0 -0.7 0 -12; 0 0 2.5 7]" in message


def test_a_mirrored_array_under_the_images_affine_cannot_be_seen_but_another_shape_can(tmp_path):
    path = save(tmp_path / "m.nii.gz", truth()[:, :, :4])
    assert "the mask is 6 x 7 x 4, its image 6 x 7 x 5" in refusal(path)
    path = save(tmp_path / "m.nii.gz", truth().transpose(2, 1, 0))
    assert "does not lie on its image" in refusal(path), "the affine does not say that axes were swapped"


NOWHERE = [np.diag([-0.8, 0, 2, 1.0]), np.diag([np.nan, 1, 1, 1]), np.diag([np.inf, 1, 1, 1])]


@pytest.mark.parametrize("affine", NOWHERE)
@pytest.mark.parametrize("trailing", [(), (1,)])
def test_an_affine_that_places_nothing_is_refused(tmp_path, affine, trailing):
    path = save(tmp_path / "m.nii.gz", truth().reshape(*truth().shape, *trailing), affine)
    assert "places no voxel" in refusal(path)


@pytest.mark.parametrize(("code", "unit"), [(1, "metres"), (3, "micrometres"), (0, None), (2, None), (8 + 2, None)])
def test_lengths_are_millimetres(tmp_path, code, unit):
    path = save(tmp_path / "m.nii.gz", truth(), xyzt_units=code)
    if unit is None:
        assert read_space(path).spacing_mm == (0.8, 0.7, 2.5)
    else:
        assert f"its lengths are in {unit}" in refusal(path)


@pytest.mark.parametrize("trailing", [(), (1,), (2,)])
@pytest.mark.parametrize(
    ("affine", "code", "said"),
    [*((affine, 2, "places no voxel") for affine in NOWHERE), (AFFINE, 1, "its lengths are in metres")],
)
@pytest.mark.parametrize("read", [read_image, read_stored])
def test_so_is_an_image_alone_by_whatever_reads_it(tmp_path, trailing, affine, code, said, read):
    path = save(tmp_path / "a.nii.gz", noise((*SHAPE, *trailing)), affine, xyzt_units=code)
    with pytest.raises(InputError, match=f"^{path}: .*{said}"):
        read([path])


def test_spacing_is_that_of_the_affine_whatever_its_axes():
    turn = Rotation.from_euler("xyz", [20, -30, 70], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.8, 0.7, 2.5)
    assert spacing_of(affine.astype(np.float32).astype(float)) == pytest.approx((0.8, 0.7, 2.5), abs=1e-6)
    assert spacing_of(AFFINE.astype(np.float32).astype(float)) == (0.8, 0.7, 2.5)


def test_axes_and_shear():
    assert HERE.axes == "LPS"
    assert not HERE.sheared
    sheared = Space(SHAPE, moved(_01=0.2))
    assert sheared.sheared
    assert sheared.spacing_mm[1] == pytest.approx(np.hypot(0.2, 0.7))


def test_an_image_is_where_its_header_says(tmp_path):
    """The sform, else the qform, else the spacing alone."""
    image = nib.Nifti1Image(noise(), None)
    image.header.set_qform(moved(_03=5), 1)
    nib.save(image, tmp_path / "q.nii.gz")
    np.testing.assert_allclose(read_space(tmp_path / "q.nii.gz").affine, moved(_03=5), atol=1e-6)
    path = save(tmp_path / "none.nii.gz", noise(), sform_code=0, pixdim=np.array([1, 0.8, 0.7, 2.5, 0, 0, 0, 0]))
    assert read_space(path).axes == "LAS"
    assert read_space(path).spacing_mm == (0.8, 0.7, 2.5)
