"""Voxels equal nibabel's bit by bit, whatever the file, its scaling and the number of threads."""

import gzip
import io
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bench.data import compression
from bench.data.space import Space
from bench.data.volume import read_image
from bench.data.voxels import all_finite, read_voxels, stored_voxels
from bench.errors import InputError
from bench.pipeline import preprocess
from bench.pipeline.preprocess import read_onto
from tests.bench.values import read_labels

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SHAPE = (37, 70, 41)  # more than a block in each direction
STORED = ("int8", "uint8", "int16", ">i2", "uint16", "int32", "uint32", "int64", "float32", ">f4", "float64")


def save(path: Path, dtype: str, slope: float = 1.0, inter: float = 0.0, kind=nib.Nifti1Image) -> Path:
    """Random bits of an integer type, or numbers of a float type, with this scaling in the header."""
    kept, rng = np.dtype(dtype), np.random.default_rng(0)
    if kept.kind == "f":
        values = rng.normal(0, 1e4, SHAPE).astype(kept)
    else:
        values = np.frombuffer(rng.bytes(np.prod(SHAPE) * kept.itemsize), kept).reshape(SHAPE)
    header = kind.header_class(endianness=">" if kept.byteorder == ">" else "<")
    header.set_data_dtype(kept)
    image = kind(np.zeros(SHAPE, kept), np.eye(4), header, dtype=kept)
    content = bytearray(image.to_bytes())
    header = kind.header_class.from_fileobj(io.BytesIO(bytes(content)))
    header["scl_slope"], header["scl_inter"] = slope, inter
    offset = int(header["vox_offset"])
    content[: header.template_dtype.itemsize] = header.binaryblock
    content[offset:] = values.tobytes(order="F")
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("scaling", [(1, 0), (0.37, -1024.3), (1, -1024), (3, 0)])
def test_values_are_nibabels(tmp_path, dtype, scaling):
    image = nib.load(save(tmp_path / "a.nii.gz", dtype, *scaling))
    ours, theirs = read_voxels(image), image.get_fdata(dtype=np.float32)
    assert len(np.unique(theirs)) > 200
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.flags.c_contiguous
    assert ours.tobytes() == theirs.tobytes()


def on_device(paths, device) -> torch.Tensor:
    intensities = read_onto(paths, torch.device(device)).intensities
    assert isinstance(intensities, torch.Tensor), "it was scaled on the host"
    assert intensities.device.type == device
    assert intensities.is_contiguous()
    return intensities.cpu()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [dtype for dtype in STORED if not dtype.startswith(">") and dtype != "uint32"])
@pytest.mark.parametrize("scaling", [(1, 0), (0.37, -1024.3), (1, -1024), (3, 0)])
def test_values_that_are_scaled_on_a_device_are_those_of_the_host(tmp_path, device, dtype, scaling, monkeypatch):
    monkeypatch.setattr(preprocess, "_TOGETHER", 9 * SHAPE[0] * SHAPE[1])  # some slices at a time, and a rest
    path = save(tmp_path / "a.nii.gz", dtype, *scaling)
    assert on_device([path], device).numpy().tobytes() == read_image([path]).intensities.tobytes()


@pytest.mark.parametrize("dtype", [">i2", "uint32"])
def test_what_a_device_cannot_scale_is_scaled_on_the_host(tmp_path, dtype):
    path = save(tmp_path / "a.nii.gz", dtype)
    there = read_onto([path], torch.device("cpu")).intensities
    assert isinstance(there, np.ndarray)
    assert there.tobytes() == read_image([path]).intensities.tobytes()


@pytest.mark.parametrize("device", DEVICES)
def test_channels_on_a_device_are_those_of_the_host(tmp_path, device):
    paths = [save(tmp_path / "a.nii.gz", "int16", 0.5, 3), save(tmp_path / "b.nii", "float32")]
    assert on_device(paths, device).numpy().tobytes() == read_image(paths).intensities.tobytes()
    voxels = np.random.default_rng(0).integers(-999, 999, (*SHAPE, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "c.nii.gz")
    assert on_device([tmp_path / "c.nii.gz"], device).numpy().tobytes() == (
        read_image([tmp_path / "c.nii.gz"]).intensities.tobytes()
    )


@pytest.mark.parametrize(("name", "kind"), [("a.nii", nib.Nifti1Image), ("a.nii.gz", nib.Nifti2Image)])
def test_other_files(tmp_path, name, kind):
    image = nib.load(save(tmp_path / name, "int16", 0.5, 3, kind))
    assert stored_voxels(image).dtype == np.int16
    assert read_voxels(image).tobytes() == image.get_fdata(dtype=np.float32).tobytes()


def test_a_file_that_is_no_plain_nifti_is_nibabels_matter(tmp_path):
    values = np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32)
    nib.save(nib.MGHImage(values, np.eye(4)), tmp_path / "a.mgz")
    image = nib.load(tmp_path / "a.mgz")
    assert stored_voxels(image) is None
    np.testing.assert_array_equal(read_voxels(image), values)


def test_the_number_of_threads_changes_nothing(tmp_path):
    image, before = nib.load(save(tmp_path / "a.nii.gz", "int16", 0.37, -1024.3)), torch.get_num_threads()
    contents = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        contents.append(read_voxels(image).tobytes())
    torch.set_num_threads(before)
    assert len(set(contents)) == 1


def test_members_and_what_follows_the_voxels(tmp_path):
    path = save(tmp_path / "a.nii.gz", "int16")
    expected, content = read_voxels(nib.load(path)), gzip.decompress(path.read_bytes())
    for packed in (gzip.compress(content[:9000]) + gzip.compress(content[9000:]), gzip.compress(content + b"more")):
        path.write_bytes(packed)
        np.testing.assert_array_equal(read_image([path]).intensities[0], expected)


def test_the_checksum_reveals_a_flipped_bit(tmp_path):
    path = save(tmp_path / "a.nii.gz", "int16")
    content = bytearray(zlib.compress(gzip.decompress(path.read_bytes()), 0, wbits=31))  # stored: any bit is a voxel's
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or cut short"):
        read_image([path])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_not_finite_is_refused(tmp_path, value):
    values = np.zeros(SHAPE, np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    assert read_image([tmp_path / "a.nii.gz"])
    values[-1, 3, 7] = value
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    for read in (read_image, lambda paths: read_onto(paths, torch.device("cpu"))):
        with pytest.raises(InputError, match=r"a\.nii\.gz: .* NaN or infinite"):
            read([tmp_path / "a.nii.gz"])


def test_a_mask_of_bytes_is_read_as_it_is_stored(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    for stored in (labels, labels.astype(np.float64), labels.astype(np.int16)):
        nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "a.nii.gz")
        read = read_labels(tmp_path / "a.nii.gz", Space(SHAPE, np.eye(4)))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, labels)
    image = nib.Nifti1Image(labels * 2, np.eye(4))
    image.header.set_slope_inter(0.5, 0)
    image.header.set_data_dtype(np.uint8)
    content = bytearray(image.to_bytes())
    at = image.header.template_dtype.fields["scl_slope"][1]
    content[at : at + 4] = np.float32(0.5).tobytes()
    content[352:] = (labels * 2).tobytes(order="F")
    (tmp_path / "b.nii").write_bytes(content)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.nii"), labels)
    labels[3, 4, 5] = 7
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="unknown label 7 in 1 voxel;"):
        read_labels(tmp_path / "a.nii.gz")


def test_integers_overflow_float32_by_their_slope_only(tmp_path):
    for slope, finite in ((1e30, True), (3e38, False)):
        image = nib.load(save(tmp_path / "a.nii.gz", "int16", slope))
        with np.errstate(over="ignore"):
            assert all_finite(image, read_voxels(image)) is finite


def test_gunzip_refuses_another_size():
    packed = gzip.compress(b"content")
    assert compression.gunzip(packed, 7) == b"content"
    assert compression.gunzip(packed, 8) is None
    assert compression.gunzip(gzip.compress(b"") + packed, 7) is None
    with pytest.raises(compression.ERRORS):
        compression.gunzip(packed[:12] + b"x" + packed[13:], 7)


def test_isal_reads_what_zlib_wrote_and_the_other_way_round():
    content = np.random.default_rng(0).integers(0, 3, 100_000).astype(np.uint8).tobytes()
    assert gzip.decompress(compression.gzip(content)) == content
    assert compression.gunzip(zlib.compress(content, wbits=31), len(content)) == content
