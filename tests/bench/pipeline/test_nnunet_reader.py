"""nnU-Net's readers on every format, and on channels in one file."""

from types import SimpleNamespace

import numpy as np
import pytest

from bench.data.volume import open_channels
from bench.errors import InputError
from bench.pipeline.nnunet.reader import Reader, refuse_unreadable
from tests.bench.data.dicom.made import Made, noise, oblique
from tests.bench.data.headers import save as save_nifti
from tests.bench.data.volumes import save

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")

VOXELS = np.random.default_rng(0).integers(-500, 500, (6, 7, 5, 2)).astype(np.int16)
# Axes exchanged, to the right, up and to the back: nothing is equal to its like.
AFFINE = np.array([[0.8, 0, 0, 30], [0, 0, -0.7, -12], [0, 2.5, 0, 7], [0, 0, 0, 1.0]])


@pytest.fixture(params=["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"])
def reader(request):
    from nnunetv2.imageio import nibabel_reader_writer, simpleitk_reader_writer

    kind = getattr(simpleitk_reader_writer, request.param, None) or getattr(nibabel_reader_writer, request.param)
    return Reader(SimpleNamespace(image_reader_writer_class=kind))


def read(reader, *paths):
    return reader.read(paths, open_channels(paths))


def test_formats_and_files_make_no_difference(reader, tmp_path):
    def files(ending):
        return [save(tmp_path / f"a_{c:04}{ending}", VOXELS[..., c], AFFINE) for c in range(2)]

    expected, properties = read(reader, *files(".nii.gz"))
    assert expected.shape[0] == 2
    for paths in (files(".nrrd"), files(".mha"), files(".mhd"), [save(tmp_path / "a.nii.gz", VOXELS, AFFINE)]):
        data, others = read(reader, *paths)
        np.testing.assert_array_equal(data, expected)
        np.testing.assert_allclose(others["spacing"], properties["spacing"], rtol=1e-6)
        for key in ("spacing", "origin", "direction") if reader.name == "SimpleITKIO" else ():
            np.testing.assert_allclose(others["sitk_stuff"][key], properties["sitk_stuff"][key], rtol=1e-6, atol=1e-6)


def test_damaged_files_are_refused_that_itk_reads(reader, tmp_path):
    for name in ("a.mha", "a.mhd"):
        path = save(tmp_path / name, VOXELS[..., 0], AFFINE)
        voxels = path if name == "a.mha" else next(tmp_path.glob("a.*raw"))
        voxels.write_bytes(voxels.read_bytes()[:-20])
        with pytest.raises(InputError, match=rf"{path.name}: (damaged or cut short|nnU-Net's Nibabel\w+ cannot)"):
            read(reader, path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(reader, tmp_path, value):
    voxels = VOXELS[..., 0].astype(np.float32)
    voxels[1, 2, 3] = value
    for name in ("a.nii.gz", "a.nrrd"):
        path = save(tmp_path / name, voxels, AFFINE)
        for reading in (reader.read, reader.read_quickly):
            with pytest.raises(InputError, match=rf"{path.name}: the image has voxels that are NaN or infinite"):
                reading([path], open_channels([path]))


def test_several_values_a_voxel(reader, tmp_path):
    several = save(tmp_path / "a.nrrd", VOXELS, AFFINE)
    if reader.name == "SimpleITKIO":  # which takes them for the last axis of a volume
        with pytest.raises(InputError, match=r"a\.nrrd: nnU-Net's SimpleITKIO reads .* save each channel as a file"):
            read(reader, several)
    else:
        data, _ = read(reader, several)
        np.testing.assert_array_equal(data, read(reader, save(tmp_path / "a.nii.gz", VOXELS, AFFINE))[0])


def test_a_series_of_dicom_is_as_its_nifti(reader, tmp_path):
    made = Made(cosines=oblique(1), slopes=(1.0, 0.5), order=(3, 0, 4, 1, 2))
    series = made.write(tmp_path / "series", noise())
    nifti = save_nifti(tmp_path / "a.nii.gz", made.values(noise()).astype(np.float32), made.affine())
    (data, properties), (expected, others) = read(reader, series), read(reader, nifti)
    np.testing.assert_array_equal(data, expected)
    np.testing.assert_allclose(properties["spacing"], others["spacing"], rtol=1e-6)
    for key in ("spacing", "origin", "direction") if reader.name == "SimpleITKIO" else ():
        np.testing.assert_allclose(properties["sitk_stuff"][key], others["sitk_stuff"][key], rtol=1e-6, atol=1e-4)


def test_tilted_slices_are_read_by_all_but_itk(reader, tmp_path):
    series = Made(step=(0, 0.8, 2.4)).write(tmp_path / "series", noise())
    if reader.name != "SimpleITKIO":
        assert read(reader, series)[0].shape[0] == 1
        return
    plans = SimpleNamespace(plans={"image_reader_writer": "SimpleITKIO"})
    for refused in (lambda: read(reader, series), lambda: refuse_unreadable(plans, [series])):
        with pytest.raises(InputError, match=r"series: its slices are tilted by 18\.4 degrees \(gantry tilt\), which"):
            refused()
    refuse_unreadable(plans, [Made().write(tmp_path / "straight", noise())])
