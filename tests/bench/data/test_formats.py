"""NRRD and MetaImage: where SimpleITK puts their voxels, and masks that SimpleITK finds there again."""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from bench.data.formats import files_of, mask_ending, stem_of
from bench.data.volume import read_header, read_image, read_mask, read_space
from bench.data.write import write_mask
from bench.errors import InputError
from tests.bench.data.headers import SHAPE, noise, truth
from tests.bench.values import VALUES

ENDINGS = (".nrrd", ".mha", ".mhd")
DIRECTION = np.array([[0, -0.8, 0.6], [1, 0, 0], [0, 0.6, 0.8]])  # a turn about an oblique axis
ORIGIN, SPACING = (-101.123456789, 12.5, 1007.1), (0.7, 0.81, 2.5)


def save(path: Path, voxels: np.ndarray, compressed: bool = True, vector: bool = False) -> Path:
    """Write ``[x, y, z]`` as ITK does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    turned = voxels.transpose(2, 1, 0, 3) if vector else voxels.transpose()
    image = SimpleITK.GetImageFromArray(turned, isVector=vector)
    image.SetOrigin(ORIGIN)
    image.SetSpacing(SPACING)
    image.SetDirection(DIRECTION.ravel())
    SimpleITK.WriteImage(image, str(path), compressed)
    return path


def place_by_itk(image: SimpleITK.Image, index: tuple[int, ...]) -> np.ndarray:
    """mm to the right, to the front, up."""
    return np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.int64])
def test_voxels_lie_where_itk_puts_them(tmp_path, ending, compressed, dtype):
    path = save(tmp_path / f"a{ending}", noise().astype(dtype), compressed)
    volume = read_image((path,))
    np.testing.assert_array_equal(volume.intensities[0], noise().astype(dtype).astype(np.float32))
    theirs = SimpleITK.ReadImage(str(path))
    for index in ((0, 0, 0), (5, 6, 4), (1, 4, 2)):
        np.testing.assert_allclose(volume.space.affine @ (*index, 1), (*place_by_itk(theirs, index), 1), atol=1e-9)
    assert volume.spacing_mm == SPACING


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", *ENDINGS])
def test_an_ending_in_capitals_is_the_same(tmp_path, ending):
    path = save(tmp_path / f"a{ending}", noise())
    expected, path = read_image((path,)), path.rename(tmp_path / f"a{ending.upper()}")
    volume = read_image((path,))
    np.testing.assert_array_equal(volume.intensities, expected.intensities)
    assert (stem_of(path.name), mask_ending(path)) == ("a", mask_ending(f"a{ending}"))
    write_mask(tmp_path / f"m{mask_ending(path)}", truth(), volume.nifti)
    np.testing.assert_array_equal(read_mask(tmp_path / f"m{mask_ending(path)}", volume.space, VALUES), truth())


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_fourth_axis_or_several_values_a_voxel_are_channels(tmp_path, ending):
    voxels = np.stack([noise(seed=seed) for seed in range(3)], axis=-1)
    axes = SimpleITK.GetImageFromArray(voxels.T, isVector=False)
    axes.SetSpacing((*SPACING, 1))
    SimpleITK.WriteImage(axes, str(tmp_path / f"axes{ending}"))
    for path in (tmp_path / f"axes{ending}", save(tmp_path / f"values{ending}", voxels, vector=True)):
        volume = read_image((path,))
        np.testing.assert_array_equal(volume.intensities, np.moveaxis(voxels, -1, 0).astype(np.float32))
        assert (volume.nifti.shape, volume.spacing_mm) == (SHAPE, SPACING)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_mask_is_written_in_the_image_s_format_and_place(tmp_path, ending):
    path = save(tmp_path / f"a{ending}", noise())
    mask = tmp_path / f"a_mask{mask_ending(path)}"
    write_mask(mask, truth(), read_header(path))
    theirs, image = SimpleITK.ReadImage(str(mask)), SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs).T, truth())
    assert (theirs.GetOrigin(), theirs.GetSpacing()) == (image.GetOrigin(), image.GetSpacing())
    assert theirs.GetDirection() == image.GetDirection()
    np.testing.assert_array_equal(read_mask(mask, read_space(path), VALUES), truth())
    again = mask.with_stem("again")
    write_mask(again, truth(), read_header(path))
    assert again.read_bytes() == mask.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_mask_of_another_format_is_put_onto_the_image(tmp_path):
    path = save(tmp_path / "a.nrrd", noise())
    affine = read_space(path).affine @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(truth()[::-1], affine), tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", read_space(path), VALUES), truth())


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, name):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    source = read_header(save(tmp_path / f"image_{name}", noise()))
    (tmp_path / f".{name}").symlink_to("/dev/full")
    with pytest.raises(InputError, match=rf"{name}: cannot be written \("):
        write_mask(tmp_path / name, truth(), source)
    assert [path.name for path in tmp_path.iterdir()] == [f"image_{name}"]
    with pytest.raises(InputError, match=r"cannot be written .*No such file"):
        write_mask(tmp_path / "nowhere" / name, truth(), source)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kept", [-20, -150, 40])
def test_files_cut_short_are_refused(tmp_path, ending, compressed, kept):
    path = save(tmp_path / f"a{ending}", noise(), compressed)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        InputError, match=rf"a\{ending}: (damaged or cut short|not a readable (NRRD|MetaImage) file) \("
    ):
        read_image((path,))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_wrong_checksum_is_refused(tmp_path, ending):
    path = save(tmp_path / f"a{ending}", np.random.default_rng(0).integers(0, 2**15, SHAPE).astype(np.int16))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or cut short"):
        read_image((path,))


@pytest.mark.parametrize(
    "lines",
    [
        "elementdatafile = LOCAL\nElementDataFile = {other}\n",
        "ElementDataFile : {other}\nElementDataFile = LOCAL\n",
        "Comment = ElementDataFile = {other}\nElementDataFile = LOCAL\n",
        "ElementDataFile : LOCAL\n",
    ],
)
def test_a_header_that_itk_reads_otherwise_leads_to_no_other_file(tmp_path, lines):
    other = tmp_path / "other.raw"
    other.write_bytes(np.full(SHAPE, 4882, np.int16).tobytes())
    path = save(tmp_path / "a.mha", noise(), False)
    header, end, voxels = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    assert end
    path.write_bytes(header + lines.format(other=other).encode() + voxels)
    with pytest.raises(InputError, match=r"a\.mha: its header does not say once and plainly where its voxels are"):
        read_image((path,))


def test_voxels_elsewhere_are_read_beside_a_metaimage_only(tmp_path):
    path = save(tmp_path / "a.mhd", noise())
    assert files_of(path) == (path, tmp_path / "a.zraw")
    assert files_of(save(tmp_path / "b.mha", noise())) == (tmp_path / "b.mha",)
    text = path.read_text()
    for other in ("../a.zraw", "/etc/passwd", "LIST", "a%03d.raw 1 5 1"):
        path.write_text(text.replace("a.zraw", other))
        with pytest.raises(
            InputError, match=r"a\.mhd: its voxels are in another file \(.*\); save it as one .mha file"
        ):
            read_header(path)
    detached = save(tmp_path / "a.nhdr", noise())
    for name in ("a.nhdr", "a.nrrd"):
        with pytest.raises(InputError, match=r"its voxels are in another file \(a.raw.gz\); save it as one .nrrd file"):
            read_header(detached.rename(detached.with_name(name)))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.nrrd", b"kinds: domain", b'space units: "cm" "cm" "cm"\nkinds: domain'),
        ("a.mha", b"NDims", b"DistanceUnits = cm\nNDims"),
    ],
)
def test_lengths_in_other_units_are_refused(tmp_path, name, old, new):
    path = save(tmp_path / name, noise())
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(InputError, match="its lengths are in cm; convert its geometry to millimetres"):
        read_header(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_plane_is_refused(tmp_path, name):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4), np.int16)), str(tmp_path / name))
    with pytest.raises(InputError, match=r"the image is 2-D \(4 x 3\)"):
        read_header(tmp_path / name)


def test_a_missing_simpleitk_is_named(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nrrd", noise())
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r'a\.nrrd: NRRD files are read by SimpleITK, .*pip install "\.\[itk\]"'):
        read_header(path)
