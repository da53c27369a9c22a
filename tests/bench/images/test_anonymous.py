"""Images without names: the same voxels and places, and not a word of the file."""

import gzip
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bench.data.volume import open_channels, read_image
from bench.errors import InputError
from bench.images.anonymous import anonymised
from bench.pipeline.nnunet.reader import Reader
from tests.bench.data.dicom.made import ID, PATIENT, Made, noise, oblique

AFFINE = np.array([[-0.7, 0.1, 0, 30], [0.1, 0.8, 0, -20], [0, 0, 2.5, 7], [0, 0, 0, 1]])
WORDS = (PATIENT, ID, "Muster", "geheim")


def named(kind, voxels, path, **scaling):
    image = kind(voxels, AFFINE)
    for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type", "unused_str"):
        if field in image.header:
            image.header[field] = "Muster" if image.header[field].dtype.itemsize < 20 else PATIENT[:20]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"geheim"))
    image.header.set_qform(AFFINE @ np.diag([1, 1, 1, 1]), 1)
    if scaling:
        image.header.set_slope_inter(**scaling)
    nib.save(image, path)
    return path


def same(path, tmp_path):
    """Whether voxels and affine are bit by bit those of the file, and no word of it is left."""
    ending, content = anonymised(path)
    sent = tmp_path / f"sent{ending}"
    sent.write_bytes(content)
    plain = gzip.decompress(content) if ending == ".nii.gz" else content
    assert not [word for word in WORDS if word.encode() in plain]
    before, after = read_image((path,)), read_image((sent,))
    np.testing.assert_array_equal(before.intensities, after.intensities)
    np.testing.assert_array_equal(before.nifti.affine, after.nifti.affine)
    assert before.nifti.header["pixdim"].tolist() == after.nifti.header["pixdim"].tolist()
    assert len(open_channels((path,))) == len(open_channels((sent,)))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti(kind, dtype, ending, tmp_path):
    same(named(kind, noise().astype(dtype), tmp_path / f"Muster{ending}"), tmp_path)


def test_slope_intercept_and_the_order_of_bytes(tmp_path):
    image = nib.Nifti1Image(noise(), AFFINE, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(np.dtype(">i2"))
    image.header.set_slope_inter(0.3, -1024)
    nib.save(image, tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").dataobj.slope != 1
    same(tmp_path / "a.nii.gz", tmp_path)


def test_channels_in_one_file_and_axes_of_length_1(tmp_path):
    same(named(nib.Nifti1Image, noise((5, 4, 3, 2)), tmp_path / "a.nii.gz"), tmp_path)
    same(named(nib.Nifti1Image, noise((5, 4, 3, 1)), tmp_path / "b.nii.gz"), tmp_path)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_what_itk_reads(ending, dtype, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    image = itk.GetImageFromArray(np.abs(noise()).astype(dtype))
    image.SetOrigin((1.5, -2.25, 3.1))
    image.SetSpacing((0.48828125, 0.8, 2.5))
    image.SetMetaData("PatientName", "Muster")
    itk.WriteImage(image, str(tmp_path / f"a{ending}"))
    same(tmp_path / f"a{ending}", tmp_path)
    places = [open_channels((tmp_path / name,))[0].extra["itk"] for name in (f"a{ending}", "sent.mha")]
    assert places[0] == places[1]


@pytest.mark.parametrize("slopes", [(1.0,), (2.0, 0.5)])
def test_a_series(slopes, tmp_path):
    same(Made(cosines=oblique(3), slopes=slopes).write(tmp_path / "series", noise()), tmp_path)


def test_what_is_cut_short_is_one_line(tmp_path):
    path = named(nib.Nifti1Image, noise((20, 20, 20)), tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"a\.nii\.gz: damaged or cut short"):
        anonymised(path)


@pytest.mark.parametrize("kind", ["series", "nrrd"])
def test_nnunets_reader_of_itk_reads_the_same(kind, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    reader = pytest.importorskip("nnunetv2.imageio.simpleitk_reader_writer").SimpleITKIO
    if kind == "series":
        path = Made(cosines=oblique(3), spacing=(0.48828125, 0.7)).write(tmp_path / "series", noise())
    else:
        image = itk.GetImageFromArray(noise())
        image.SetSpacing((0.48828125, 0.7, 2.5))
        itk.WriteImage(image, str(path := tmp_path / "a.nrrd"))
    ending, content = anonymised(path)
    sent = tmp_path / f"sent{ending}"
    sent.write_bytes(content)
    plans = SimpleNamespace(image_reader_writer_class=reader)
    for read in (Reader(plans).read, Reader(plans).read_quickly):
        before, after = read([path], open_channels([path])), read([sent], open_channels([sent]))
        np.testing.assert_array_equal(before[0], after[0])
        assert "sitk_stuff" in before[1]
        assert str(before[1]) == str(after[1])
