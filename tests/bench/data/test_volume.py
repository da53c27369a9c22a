"""Volumes of real numbers, 3-D whatever length-1 axes stand behind."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.volume import read_header, read_image, read_space
from bench.data.voxels import stored_voxels
from bench.data.write import write_mask
from bench.errors import InputError
from tests.bench.data.headers import AFFINE, SHAPE, noise, save, truth
from tests.bench.values import read_labels

COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
NO_NUMBERS = {
    "complex": np.zeros(SHAPE, np.complex64),
    "colours": np.zeros(SHAPE, COLOURS),
    "colours and transparency": np.zeros(SHAPE, [*COLOURS.descr, ("A", "u1")]),
}


def read_one(path):
    return read_image([path])


@pytest.mark.parametrize("behind", [(1,), (1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_axes_of_length_1_behind_the_third_are_no_axes(tmp_path, behind, name):
    path = save(tmp_path / name, noise().reshape(*SHAPE, *behind), scl_slope=1, scl_inter=0)
    volume = read_image([path])
    np.testing.assert_array_equal(volume.intensities[0], noise())
    assert stored_voxels(volume.nifti) is not None, "read as lean as any other"
    mask = save(tmp_path / f"m_{name}", truth().reshape(*SHAPE, *behind))
    np.testing.assert_array_equal(read_labels(mask, read_space(path)), truth())
    write_mask(tmp_path / "out.nii.gz", truth(), volume.nifti)
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.shape == SHAPE
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), truth())


@pytest.mark.parametrize("shape", [(1, 7, 5), (6, 1, 5), (6, 7, 1), (6, 7, 1, 1)])
def test_a_single_slice_is_a_volume(tmp_path, shape):
    assert read_image([save(tmp_path / "a.nii.gz", noise(shape))]).intensities.shape == (1, *shape[:3])


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 5, 2), (6, 7, 5, 1, 3), (6, 7, 5, 2, 1)])
def test_what_is_no_volume_is_refused(tmp_path, shape):
    path, channels = save(tmp_path / "a.nii.gz", np.zeros(shape, np.int16)), shape[3:4] == (2,)
    if channels:
        assert read_one(path).intensities.shape == (2, 6, 7, 5)
    for read, what in ((read_labels, "mask"), *(() if channels else ((read_one, "image"),))):
        with pytest.raises(InputError, match=rf"the {what} is \d-D \({' x '.join(map(str, shape))}\), not 3-D"):
            read(path)


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("read", [read_header, read_one, read_labels])
def test_voxels_that_are_no_real_numbers_are_refused(tmp_path, kind, read):
    path = save(tmp_path / "a.nii.gz", NO_NUMBERS[kind])
    with pytest.raises(InputError, match=r"its voxels are (complex numbers|colours), not single real numbers"):
        read(path)


def overwrite(path: Path, field: str, value: object) -> None:
    """Put a value into the header of a file, whatever nibabel would say of it."""
    packed, content = path.suffix == ".gz", path.read_bytes()
    changed = bytearray(gzip.decompress(content) if packed else content)
    dtype, at = nib.Nifti1Header.template_dtype.fields[field][:2]
    changed[at : at + dtype.itemsize] = np.asarray(value).astype(dtype.base).tobytes()
    path.write_bytes(gzip.compress(bytes(changed)) if packed else bytes(changed))


@pytest.mark.parametrize("code", [0, 1, 255, 7777])
def test_a_type_that_nifti_does_not_have_is_refused(tmp_path, code):
    path = save(tmp_path / "a.nii.gz", noise())
    overwrite(path, "datatype", code)
    for read in (read_one, read_labels):
        with pytest.raises(InputError, match=r"a\.nii\.gz: "):
            read(path)


HOSTILE = {
    "dim": [np.array([3, 32767, 32767, 32767, 1, 1, 1, 1]), np.array([3, -6, 7, 5, 1, 1, 1, 1]), np.zeros(8)],
    "vox_offset": [np.inf, np.nan, -1, 1e30],
    "sizeof_hdr": [0],
    "scl_inter": [np.nan],
    "qform_code": [-1],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in HOSTILE.items() for value in values])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_lies_costs_one_line(tmp_path, field, value, name):
    path = save(tmp_path / name, noise())
    overwrite(path, field, value)
    for line in (_refusal(read, path) for read in (read_one, read_labels, read_space)):
        assert line is None or (line.startswith(f"{path}: ") and line.isprintable())


def test_channels_whose_headers_lie_cost_one_line(tmp_path):
    paths = [save(tmp_path / f"a_000{channel}.nii", noise()) for channel in (0, 1)]
    for path in paths:
        overwrite(path, "dim", np.array([3, 32767, 32767, 32767, 1, 1, 1, 1]))
    with pytest.raises(InputError, match=r"a_0000\.nii: .*do not fit into memory"):
        read_image(paths)


def _refusal(read, path):
    try:
        read(path)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("stored", ["uint64", "int64", "int8", ">i4", "float64", "float32"])
def test_labels_of_any_type(tmp_path, stored):
    header = nib.Nifti1Header(endianness=">" if stored[0] == ">" else "<")
    header.set_data_dtype(stored)
    nib.save(nib.Nifti1Image(truth().astype(stored), AFFINE, header), tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz"), truth())


@pytest.mark.parametrize("slope", [0, np.nan, np.inf])
def test_a_slope_that_is_none_is_not_applied(tmp_path, slope):
    path = save(tmp_path / "a.nii.gz", noise())
    overwrite(path, "scl_slope", slope)
    np.testing.assert_array_equal(read_image([path]).intensities[0], noise())
