"""Masks on disk: what nibabel would write, equal for equal labels, complete or absent."""

import gzip
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.write import write_mask
from bench.errors import InputError
from tests.bench.data.headers import save

LABELS = np.random.default_rng(0).integers(0, 3, (20, 31, 12)).astype(np.uint8)


@pytest.fixture
def source(tmp_path):
    affine = np.array([[0.6, 0.1, 0, -40], [-0.1, 0.7, 0.05, 12], [0, -0.05, 2.0, 7], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(np.zeros(LABELS.shape, np.int16), affine)
    image.header.set_slope_inter(0.5, -700)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept"))
    nib.save(image, tmp_path / "a_0000.nii.gz")
    return nib.load(tmp_path / "a_0000.nii.gz")


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_content_is_what_nibabel_writes(source, tmp_path, order):
    write_mask(tmp_path / "a.nii.gz", np.array(LABELS, order=order), source)
    header = source.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    theirs = nib.Nifti1Image(LABELS, source.affine, header).to_bytes()
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes()) == theirs
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj), LABELS)


def test_equal_masks_are_equal_files(source, tmp_path):
    write_mask(tmp_path / "a.nii.gz", LABELS, source)
    time.sleep(1.1)  # a time in the header counts seconds
    write_mask(tmp_path / "other.nii.gz", LABELS, source)
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "other.nii.gz").read_bytes()
    assert not first[3] & 8, "a name in the header"


def test_a_full_disk_is_reported_and_leaves_nothing(source, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / ".a.nii.gz").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be written \(No space left on device\)"):
        write_mask(tmp_path / "a.nii.gz", LABELS, source)
    assert [path.name for path in tmp_path.iterdir()] == ["a_0000.nii.gz"]


def test_a_folder_that_is_not_there(source, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_mask(tmp_path / "nowhere" / "a.nii.gz", LABELS, source)


def test_a_header_that_fits_no_mask_is_one_line(tmp_path):
    source = nib.load(save(tmp_path / "a_0000.nii.gz", LABELS, np.diag([np.nan, 1, 1, 1])))
    with pytest.raises(InputError, match=r"a\.nii\.gz: its image's header does not fit a mask \(.+\); correct it"):
        write_mask(tmp_path / "a.nii.gz", LABELS, source)
    assert [path.name for path in tmp_path.iterdir()] == ["a_0000.nii.gz"]


def test_before_a_mask_gets_its_name_its_writer_is_asked(source, tmp_path):
    seen = []

    def look(content: bytes) -> None:
        seen.append((content, (tmp_path / ".a.nii.gz").read_bytes(), (tmp_path / "a.nii.gz").exists()))

    write_mask(tmp_path / "a.nii.gz", LABELS, source, before_named=look)
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert seen == [(content, content, False)]

    def refuse(_: bytes) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_mask(tmp_path / "b.nii.gz", LABELS, source, before_named=refuse)
    assert not list(tmp_path.glob("*b.nii.gz"))
