"""A DICOM series as an image: what is read is what GDCM reads, and the standard's equation says where it lies."""

import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.cases import sha256_of
from bench.data.dicom.files import is_series
from bench.data.formats import files_of, format_of, load, mask_ending, stem_of
from bench.data.volume import read_image, read_space
from bench.errors import InputError
from tests.bench.data.dicom.made import AXIAL, MR, SHAPE, Made, noise, oblique

NEGATED = {"column": (1, 0, 0, 0, -1, 0), "row": (-1, 0, 0, 0, 1, 0), "both": (-1, 0, 0, 0, -1, 0)}
SAGITTAL, CORONAL = (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
PACKED = {"RLE": "1.2.840.10008.1.2.5", "JPEG-LS": "1.2.840.10008.1.2.4.80", "JPEG 2000": "1.2.840.10008.1.2.4.90"}


def by_gdcm(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    reader.SetOutputPixelType(SimpleITK.sitkFloat64)
    return reader.Execute()


def affine_by_itk(image: SimpleITK.Image) -> np.ndarray:
    """To mm to the right, to the front, up."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


MADE = st.builds(
    Made,
    cosines=st.one_of(
        st.sampled_from([AXIAL, *NEGATED.values(), SAGITTAL, CORONAL]), st.integers(0, 10**6).map(oblique)
    ),
    spacing=st.tuples(st.floats(0.1, 5).map(lambda mm: round(mm, 3)), st.floats(0.1, 5).map(lambda mm: round(mm, 3))),
    apart=st.floats(0.2, 10).map(lambda mm: round(mm, 3)),
    origin=st.tuples(*[st.floats(-1500, 1500).map(lambda mm: round(mm, 2))] * 3),
    order=st.permutations(range(SHAPE[2])),
    slopes=st.lists(st.sampled_from([1.0, 0.5, 2.0, 0.037109375]), min_size=1, max_size=3),
    intercepts=st.lists(st.sampled_from([0.0, -1024.0, 12.5]), min_size=1, max_size=2),
    syntax=st.sampled_from([IMPLICIT, "1.2.840.10008.1.2.1"]),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(MADE, st.sampled_from([np.int16, np.uint16]), st.integers(0, 99))
def test_voxels_and_places_are_those_of_gdcm(made, dtype, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = made.write(Path(folder) / "a", noise(dtype=dtype, seed=seed))
        volume, theirs = read_image((path,)), by_gdcm(path)
        np.testing.assert_array_equal(volume.intensities[0], made.values(noise(dtype=dtype, seed=seed)).astype("f4"))
        np.testing.assert_array_equal(volume.intensities[0], SimpleITK.GetArrayFromImage(theirs).T.astype("f4"))
        for affine, near in ((made.affine(), 1e-6), (affine_by_itk(theirs), 2e-4)):
            ends = np.array([[0, 0, 0, 1], [*np.array(SHAPE) - 1, 1]])
            np.testing.assert_allclose(ends @ volume.nifti.affine.T, ends @ affine.T, atol=near)


@pytest.mark.parametrize("cosines", NEGATED.values(), ids=NEGATED)
def test_negated_cosines_turn_the_axes(tmp_path, cosines):
    volume = read_image((Made(cosines=cosines).write(tmp_path / "a", noise()),))
    assert volume.space.axes == {1: "L", -1: "R"}[cosines[0]] + {1: "P", -1: "A"}[cosines[4]] + (
        "S" if cosines[0] * cosines[4] > 0 else "I"
    )
    assert volume.spacing_mm == (0.7, 0.8, 2.5)


def test_a_tilted_gantry_shears_the_affine_and_leaves_the_voxels(tmp_path):
    made = Made(step=(0, 0.8, 2.4))
    volume = read_image((made.write(tmp_path / "a", noise()),))
    np.testing.assert_allclose(volume.nifti.affine, made.affine(), atol=1e-9)
    assert volume.space.sheared
    stack = volume.nifti.extra["dicom"].stack
    assert (round(stack.tilt, 2), round(stack.apart, 6), stack.tilted) == (18.43, 2.4, True)
    np.testing.assert_array_equal(volume.intensities[0], noise().astype("f4") - 1024)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 0, 3, 1, 2)])
def test_all_slices_in_one_file_are_those_of_a_series(tmp_path, order):
    made = Made(cosines=oblique(3), slopes=(1.0, 0.25), intercepts=(-1024.0, 3.0), order=order)
    path = made.write_frames(tmp_path / "a" / "IM1", noise())
    series = made.write(tmp_path / "b", noise())
    assert is_series(path.parent)
    other = load(series)
    for opened in (path.parent, path.with_name("one.dcm")):
        if not opened.exists():
            path.rename(opened)
        image = load(opened)
        np.testing.assert_array_equal(image.get_fdata(), other.get_fdata())
        np.testing.assert_array_equal(image.affine, other.affine)
        np.testing.assert_array_equal(image.get_fdata(), made.values(noise()).astype("f4"))


@pytest.mark.parametrize("syntax", [*PACKED.values(), IMPLICIT, BIG_ENDIAN], ids=[*PACKED, "implicit", "big-endian"])
def test_packed_voxels_are_those_that_were_packed(tmp_path, syntax):
    stored = noise((64, 48, 4), np.uint16)
    volume = read_image((Made(syntax=syntax).write(tmp_path / "a", stored),))
    np.testing.assert_array_equal(volume.intensities[0], stored.astype("f4") - 1024)


def test_jpeg_lossless_is_unpacked_as_dcmtk_packs_it(tmp_path):
    import subprocess

    if shutil.which("dcmcjpeg") is None:
        pytest.skip("DCMTK's dcmcjpeg is not installed: apt-get install dcmtk")
    stored = noise((16, 16, 3), np.uint16)
    (tmp_path / "b").mkdir()
    for file in Made().write(tmp_path / "a", stored).iterdir():
        subprocess.run(["dcmcjpeg", str(file), str(tmp_path / "b" / file.name)], check=True)
    np.testing.assert_array_equal(read_image((tmp_path / "b",)).intensities[0], stored.astype("f4") - 1024)


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_beside_the_stored_ones_are_no_values(tmp_path, signed):
    """Old images keep overlays there."""
    values = noise((7, 6, 5), np.int16)
    stored = (values & 0x0FFF).astype(np.uint16) | np.uint16(0x5000)

    def twelve(_: int, dataset: pydicom.Dataset) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, signed

    volume = read_image((Made().write(tmp_path / "a", stored, twelve),))
    expected = values if signed else values & 0x0FFF
    np.testing.assert_array_equal(volume.intensities[0], expected.astype("f4") - 1024)


def test_padding_stays_and_slices_of_other_types_are_brought_together(tmp_path):
    def mixed(index: int, dataset: pydicom.Dataset) -> None:
        dataset.PixelPaddingValue = -100
        if index == 2:
            dataset.PixelData = np.full((6, 7), 60000, np.uint16).tobytes()
            dataset.PixelRepresentation = 0
            dataset["PixelPaddingValue"].VR = "US"
            dataset.PixelPaddingValue = 60000

    volume = read_image((Made().write(tmp_path / "a", noise(), mixed),))
    expected = noise().astype("f4")
    expected[..., 2] = 60000
    np.testing.assert_array_equal(volume.intensities[0], expected - 1024)


def test_a_single_slice_is_as_thick_as_it_says(tmp_path):
    space = read_space(Made().write(tmp_path / "a", noise((7, 6, 1))))
    assert (space.shape, space.spacing_mm) == ((7, 6, 1), (0.7, 0.8, 2.5))


def test_ct_to_be_shown_inverted_keeps_its_values(tmp_path):
    def inverted(_: int, dataset: pydicom.Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    volume = read_image((Made().write(tmp_path / "a", noise(), inverted),))
    np.testing.assert_array_equal(volume.intensities[0], noise().astype("f4") - 1024)


def test_what_is_no_slice_is_passed_by(tmp_path):
    def localizer(index: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.SOPInstanceUID += ".77"

    def report(index: int, dataset: pydicom.Dataset) -> None:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    made, path = Made(), tmp_path / "a"
    Made(cosines=CORONAL).write(path, noise((9, 9, 1)), localizer)
    (path / "IM0000").rename(path / "SCOUT")
    Made(series="1.2.3").write(path, noise((9, 9, 1)), report)
    (path / "IM0000").rename(path / "REPORT")
    (path / "read me.txt").write_text("a disc of the clinic")
    (path / ".DS_Store").write_bytes(b"")
    (path / "thumbs").mkdir()
    made.write(path, noise())
    np.testing.assert_array_equal(read_image((path,)).intensities[0], noise().astype("f4") - 1024)


@pytest.mark.parametrize("implicit", [True, False])
def test_data_sets_without_meta_information_are_read(tmp_path, implicit):
    path = Made().write(tmp_path / "a", noise())
    for file in path.iterdir():
        dataset, content = pydicom.dcmread(file), io.BytesIO()
        del dataset.file_meta, dataset.preamble
        dataset.save_as(content, implicit_vr=implicit, little_endian=True)
        file.write_bytes(content.getvalue())
    assert is_series(path)
    np.testing.assert_array_equal(read_image((path,)).intensities[0], noise().astype("f4") - 1024)


def test_a_folder_is_a_series_by_what_its_files_hold(tmp_path):
    path = Made(kind=MR).write(tmp_path / "case.1", noise())
    assert (is_series(path), format_of(path), mask_ending(path), stem_of("case.1.dcm")) == (
        True, "DICOM", ".dcm", "case.1",
    )  # fmt: skip
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.dcm").write_text("no DICOM")
    assert not any(map(is_series, (tmp_path, tmp_path / "b", tmp_path / "nowhere", path / "IM0000")))
    with pytest.raises(InputError, match="b: a folder without a DICOM series"):
        read_image((tmp_path / "b",))


def test_a_series_is_known_by_its_slices_whatever_their_names(tmp_path):
    a, b = Made(order=(3, 1, 0, 2, 4)), Made()
    change = lambda index, dataset: setattr(dataset, "InstanceNumber", index)  # noqa: E731
    first, second = (made.write(tmp_path / name, noise(), change) for made, name in ((a, "a"), (b, "b")))
    assert sha256_of(first) == sha256_of(second)
    assert [file.name for file in files_of(first)] == ["IM0002", "IM0001", "IM0003", "IM0000", "IM0004"]
    assert sha256_of(first) != sha256_of(a.write(tmp_path / "c", noise(seed=1), change))


def test_a_missing_pydicom_is_named(tmp_path, monkeypatch):
    path = Made().write(tmp_path / "a", noise())
    for name in [name for name in sys.modules if name.partition(".")[0] == "pydicom"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert is_series(path)
    with pytest.raises(InputError, match=r'DICOM is read and written by pydicom, .*pip install "\.\[dicom\]"'):
        read_image((path,))
