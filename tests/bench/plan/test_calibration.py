"""Which tiles INT8 engines are calibrated on."""

import pickle
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.data.cases import find_cases
from bench.errors import InputError
from bench.pipeline.settings import InferenceSettings
from bench.plan.calibration import CASES, from_training_cases, remark_on_names
from tests.bench.values import VALUES

SETTINGS = InferenceSettings(
    protocol="sliding-window", tile=(16, 16, 16), overlap=0.5, batch=1, roi="none", window=(-1000, 1000)
)


def write(root, split, number, shape=(24, 20, 12)):
    rng = np.random.default_rng([number, len(split)])
    folder = root / split / f"subtype{number % 3}"
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(shape, np.uint8)
    labels[14:24, 10:20, 2:10] = 1
    hu = np.where(labels > 0, 500, rng.integers(-900, 0, shape)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.eye(4)), folder / f"{split}_{number:03}_0000.nii.gz")
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"{split}_{number:03}.nii.gz")


@pytest.fixture
def root(tmp_path):
    for number in range(CASES + 4):
        write(tmp_path, "train", number)
    for number in range(2):
        write(tmp_path, "validation", number)
    return tmp_path


def test_tiles_come_from_the_training_split_and_hold_foreground(root):
    _, evaluated = find_cases(root, "validation")
    chosen, names = from_training_cases(root, evaluated, SETTINGS, VALUES)
    assert len(names) == CASES
    assert (names[0], names[-1]) == ("train_000", "train_019")
    tiles = pickle.loads(pickle.dumps(chosen)).tiles()  # workers get it through a socket
    assert tiles.shape == (2 * CASES, 1, 16, 16, 16)
    assert tiles.dtype == torch.float32
    assert 0 <= float(tiles.min()) <= float(tiles.max()) <= 1
    foreground = (tiles[1::2] > 0.7).float().mean(dim=(1, 2, 3, 4))
    assert (foreground == 10 * 10 * 8 / 16**3).all(), "the second tile of each case holds the whole gland"
    torch.testing.assert_close(tiles, chosen.tiles(), rtol=0, atol=0)


def test_masks_of_training_cases_lie_on_their_images(root):
    _, evaluated = find_cases(root, "validation")
    before = from_training_cases(root, evaluated, SETTINGS, VALUES)[0].tiles()
    masks = [path for path in root.rglob("train_*.nii.gz") if not path.name.endswith("_0000.nii.gz")]
    for path in masks:
        nib.save(nib.load(path).as_reoriented(np.array([[1, -1], [2, 1], [0, -1]])), path)
    torch.testing.assert_close(
        from_training_cases(root, evaluated, SETTINGS, VALUES)[0].tiles(), before, rtol=0, atol=0
    )
    first = root / "train" / "subtype0" / "train_000.nii.gz"
    mask = nib.load(first)
    nib.save(nib.Nifti1Image(np.asanyarray(mask.dataobj), mask.affine + 0.1), first)
    with pytest.raises(InputError, match=r"train_000\.nii\.gz: the mask does not lie on its image"):
        from_training_cases(root, evaluated, SETTINGS, VALUES)


def test_the_key_follows_content_and_settings(root):
    _, evaluated = find_cases(root, "validation")
    key = from_training_cases(root, evaluated, SETTINGS, VALUES)[0].sha256
    assert from_training_cases(root, evaluated, SETTINGS, VALUES)[0].sha256 == key
    assert from_training_cases(root, evaluated, replace(SETTINGS, overlap=0.25), VALUES)[0].sha256 != key
    write(root, "train", 0, shape=(30, 20, 12))
    assert from_training_cases(root, evaluated, SETTINGS, VALUES)[0].sha256 != key


def test_nothing_to_calibrate_from(root):
    _, training = find_cases(root, "train")
    assert from_training_cases(root, training, SETTINGS, VALUES) == (None, [])
    of_others = from_training_cases(root, training[::2], SETTINGS, VALUES)[1]
    assert of_others, "cases of the training split that are evaluated themselves are left out, and no more"
    assert not {case.name for case in training[::2]} & set(of_others)
    for path in (root / "train").rglob("*.nii.gz"):
        path.unlink()
    assert from_training_cases(root, find_cases(root, "validation")[1], SETTINGS, VALUES) == (None, [])


def test_an_image_of_the_training_split_is_refused_under_whatever_name(root):
    _, training = find_cases(root, "train")
    _, evaluated = find_cases(root, "validation")
    unseen = next(case for case in training if case.name == "train_002")
    assert "train_002" not in from_training_cases(root, evaluated, SETTINGS, VALUES)[1]
    copy = unseen.image_path.with_name("other_0000.nii.gz")
    copy.write_bytes(unseen.image_path.read_bytes())
    with pytest.raises(InputError, match=r"train_002_0000.*calibration must not see evaluated cases"):
        from_training_cases(root, [*evaluated, replace(unseen, name="other", image_paths=(copy,))], SETTINGS, VALUES)


def test_a_name_that_two_splits_have_is_a_remark(root):
    _, evaluated = find_cases(root, "validation")
    assert not list(remark_on_names(root, evaluated))
    alike = [replace(evaluated[0], name="train_003"), evaluated[1]]
    assert from_training_cases(root, alike, SETTINGS, VALUES)[0] is not None
    (remark,) = remark_on_names(root, alike)
    assert remark.startswith("1 of 2 cases have the name of a training case and another image (train_003)")
