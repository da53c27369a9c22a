"""Labels as a DICOM segmentation: the same voxel by voxel, read by highdicom and by dcmqi, wherever the slices lie."""

import json
import logging
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset

from bench.data.formats import load
from bench.data.volume import MaskValues, read_header, read_mask, read_space
from bench.data.write import write_mask
from bench.errors import InputError
from models.task import PANCREAS
from tests.bench.data.dicom.made import AXIAL, PATIENT, SHAPE, Made, labels, noise, oblique
from tests.bench.data.headers import save as save_nifti

VALUES = MaskValues.of(PANCREAS)
NAMES = {value: name for name, value in PANCREAS.labels.items()}
LIE = {
    "axial": Made(),
    "negated column": Made(cosines=(1, 0, 0, 0, -1, 0)),
    "negated row": Made(cosines=(-1, 0, 0, 0, 1, 0)),
    "coronal": Made(cosines=(1, 0, 0, 0, 0, -1)),
    "oblique": Made(cosines=oblique(1)),
    "oblique and turned round": Made(cosines=oblique(4)),
    "tilted": Made(step=(0, 0.8, 2.4)),
    "out of order, scaled by slice": Made(order=(3, 0, 4, 1, 2), slopes=(1.0, 0.5), intercepts=(0.0, -7.0)),
}


def written(folder: Path, made: Made, mask: np.ndarray, names: dict[int, str] | None = None) -> tuple[Path, Path]:
    """A series and its segmentation."""
    series = made.write(folder / "series", noise(mask.shape))
    write_mask(folder / "mask.dcm", mask, read_header(series), NAMES if names is None else names)
    return series, folder / "mask.dcm"


def by_highdicom(series: Path, mask: Path) -> np.ndarray:
    """``[column, row, slice]``, asked for by the images that it is of."""
    seg = highdicom.seg.segread(mask)
    slices = sorted((pydicom.dcmread(file) for file in series.iterdir()), key=lambda each: each.SOPInstanceUID)
    return seg.get_pixels_by_source_instance(
        [each.SOPInstanceUID for each in slices], combine_segments=True, assert_missing_frames_are_empty=True
    ).T


def by_dcmqi(mask: Path, made: Made, shape: tuple[int, ...], values: list[int]) -> np.ndarray:
    """``[column, row, slice]``, put where dcmqi says that it lies; slices without a frame at both ends are left out."""
    if find_spec("dcmqi") is None:
        pytest.skip("dcmqi is not installed: pip install dcmqi")
    folder = mask.parent / "dcmqi"
    folder.mkdir()
    program = Path(sys.executable).with_name("segimage2itkimage")
    arguments = ["--inputDICOM", str(mask), "--outputDirectory", str(folder), "-t", "nrrd"]
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = np.zeros(shape, np.uint8)
    for number, value in enumerate(values, 1):
        path = folder / f"{number}.nrrd"
        if not path.exists():
            continue
        image = SimpleITK.ReadImage(str(path))
        voxels = SimpleITK.GetArrayFromImage(image).T
        origin = np.diag([-1, -1, 1, 1]) @ np.array([*image.GetOrigin(), 1])
        start = np.linalg.inv(made.affine()) @ origin
        np.testing.assert_allclose(start, np.rint(start), atol=1e-3)
        np.testing.assert_allclose(start[:2], 0, atol=1e-3)
        np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3))[:, :2].T.ravel(), made.cosines, atol=1e-6)
        first = round(start[2])
        whole[..., first : first + voxels.shape[2]][voxels > 0] = value
    return whole


@pytest.mark.parametrize("made", LIE.values(), ids=LIE)
def test_the_mask_is_the_same_for_every_reader(tmp_path, made):
    series, mask = written(tmp_path, made, labels())
    np.testing.assert_array_equal(read_mask(mask, read_space(series), VALUES), labels())
    np.testing.assert_array_equal(by_highdicom(series, mask), labels())
    np.testing.assert_array_equal(by_dcmqi(mask, made, SHAPE, [1, 2]), labels())


@pytest.mark.parametrize(
    ("cosines", "shape"),
    [((0.577, 0.577, 0.577, -0.707, 0.707, 0), (512, 512, 2)), ((0.71, 0.71, 0, -0.71, 0.71, 0), (48, 40, 3))],
)
def test_it_lies_on_slices_whose_cosines_are_rounded(tmp_path, cosines, shape):
    """Far from the first voxel they would lead to another place than the unit vectors that a series is read by."""
    mask = np.zeros(shape, np.uint8)
    mask[-3:, -2:, 1:], mask[:2, :2, 0] = 2, 1
    series, path = written(tmp_path, Made(cosines=cosines), mask)
    np.testing.assert_array_equal(read_mask(path, read_space(series), VALUES), mask)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 0, 3, 1, 2)])
def test_on_slices_in_one_file(tmp_path, order):
    made = Made(cosines=oblique(2), order=order)
    path = made.write_frames(tmp_path / "a" / "IM1", noise())
    mask = tmp_path / "mask.dcm"
    write_mask(mask, labels(), read_header(path.parent), NAMES)
    np.testing.assert_array_equal(read_mask(mask, read_space(path.parent), VALUES), labels())
    np.testing.assert_array_equal(by_dcmqi(mask, made, SHAPE, [1, 2]), labels())
    seg = highdicom.seg.segread(mask)
    uid = pydicom.dcmread(path).SOPInstanceUID
    frames = seg.get_pixels_by_source_frame(
        uid, list(range(1, 6)), combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(frames.T, labels()[..., list(order)])


def test_the_mask_lies_on_a_nifti_of_the_series_too(tmp_path):
    """As converters write it: rows turned round."""
    made = Made(cosines=oblique(5))
    _, mask = written(tmp_path, made, labels())
    flip = np.array([[1, 0, 0, 0], [0, -1, 0, SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    nifti = save_nifti(tmp_path / "a.nii.gz", noise()[:, ::-1], made.affine() @ flip)
    np.testing.assert_array_equal(read_mask(mask, read_space(nifti), VALUES), labels()[:, ::-1])


def test_labels_keep_their_values_and_names(tmp_path):
    mask = labels() * 7
    names = {0: "background", 7: "Leber-Gefäß \\ 肝", 9: "nowhere", 200: "x" * 80}
    series, path = written(tmp_path, Made(), mask, names)
    seg = pydicom.dcmread(path)
    assert [each.SegmentLabel for each in seg.SegmentSequence] == ["Leber-Gefäß _ 肝", "nowhere", "label 14", "x" * 64]
    assert (seg.SpecificCharacterSet, str(seg.PatientName)) == ("ISO_IR 192", PATIENT)
    values = MaskValues({0: 0, 7: 7, 14: 14}, {})
    np.testing.assert_array_equal(read_mask(path, read_space(series), values), mask)
    np.testing.assert_array_equal(by_dcmqi(path, Made(), SHAPE, [7, 9, 14, 200]), mask)


@pytest.mark.parametrize("names", [NAMES, {}])
def test_no_voxel_at_all(tmp_path, names):
    series, mask = written(tmp_path, Made(), np.zeros(SHAPE, np.uint8), names)
    assert read_mask(mask, read_space(series), VALUES).max() == 0
    assert not by_highdicom(series, mask).any()
    assert not by_dcmqi(mask, Made(), SHAPE, [1, 2]).any()
    assert len(pydicom.dcmread(mask).PerFrameFunctionalGroupsSequence) <= 2


def test_names_of_tissues_are_coded_and_others_are_tissue(tmp_path):
    _, mask = written(tmp_path, Made(), labels(), {1: "Pancreas", 2: "lesion", 3: "zone 3"})
    codes = [
        (each.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning, each.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        for each in pydicom.dcmread(mask).SegmentSequence
    ]
    assert codes == [
        ("Anatomical Structure", "15776009"),
        ("Morphologically Abnormal Structure", "52988006"),
        ("Tissue", "85756007"),
    ]


def test_it_refers_to_its_images_and_carries_their_patient(tmp_path):
    series, mask = written(tmp_path, Made(), labels())
    seg, image = pydicom.dcmread(mask), pydicom.dcmread(series / "IM0000")
    for name in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyDate",
        "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "ContentDate", "ContentTime",
    ):  # fmt: skip
        assert seg[name].value == image[name].value, name
    assert seg.SeriesInstanceUID != image.SeriesInstanceUID
    referred = {each.ReferencedSOPInstanceUID for each in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referred == {pydicom.dcmread(file).SOPInstanceUID for file in series.iterdir()}
    assert (seg.SegmentationType, seg.Modality, seg.SegmentSequence[0].SegmentAlgorithmName) == (
        "BINARY", "SEG", "voxbench",
    )  # fmt: skip


def test_equal_input_gives_equal_files_and_other_input_other_uids(tmp_path):
    uids = set()
    for number, (mask, names, name) in enumerate(
        [(labels(), NAMES, PATIENT), (labels(), {1: "a"}, PATIENT), (labels()[::-1].copy(), NAMES, PATIENT),
         (labels(), NAMES, "Muster^Erik")]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        series = Made().write(folder / "s", noise(), lambda _, dataset: setattr(dataset, "PatientName", name))  # noqa: B023
        for path in (folder / "a.dcm", folder / "b.dcm"):
            write_mask(path, mask, read_header(series), names)
        assert (folder / "a.dcm").read_bytes() == (folder / "b.dcm").read_bytes()
        seg = pydicom.dcmread(folder / "a.dcm")
        assert seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID
        new = {seg.SOPInstanceUID, seg.SeriesInstanceUID, seg.DimensionOrganizationSequence[0].DimensionOrganizationUID}
        assert len(new) == 3
        assert all(uid.startswith("2.25.") and pydicom.uid.UID(uid).is_valid for uid in new)
        assert not uids & new
        uids |= new


def test_nothing_of_the_patient_is_printed_and_odd_elements_do_not_stop_it(tmp_path, capfd, caplog):
    def odd(_: int, dataset: Dataset) -> None:
        dataset.PatientName = "Erika Muster (geb. Muster)"
        dataset.PatientSex = "W"
        dataset.PatientBirthDate, dataset.PatientAge = "1964.11.03", "61"
        dataset.PatientWeight = "70.2500"
        del dataset.StudyID, dataset.AccessionNumber

    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.INFO):
        warnings.simplefilter("always")
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        try:
            series = Made().write(tmp_path / "s", noise(), odd)
        finally:
            pydicom.config.settings.writing_validation_mode = None
        for file in series.iterdir():
            file.write_bytes(file.read_bytes().replace(b"70.2500 ", b"zu viel "))
        caught.clear()
        caplog.clear()
        write_mask(tmp_path / "m.dcm", labels(), read_header(series), NAMES)
    spoken = " ".join([*(str(each.message) for each in caught), caplog.text, *capfd.readouterr()])
    assert not any(part in spoken for part in ("Erika", "1964", "zu viel", "'W'", "'61'"))
    seg = pydicom.dcmread(tmp_path / "m.dcm")
    assert (str(seg.PatientName), seg.PatientSex) == ("Erika Muster (geb. Muster)", "W")
    assert seg.PatientBirthDate == "1964.11.03"
    np.testing.assert_array_equal(read_mask(tmp_path / "m.dcm", read_space(series), VALUES), labels())
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.WARN


def test_names_in_an_old_character_set_stay(tmp_path):
    def latin(_: int, dataset: Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müßig^Änne"

    series = Made().write(tmp_path / "s", noise(), latin)
    for names, kept in ((NAMES, "ISO_IR 100"), ({1: "肝"}, "ISO_IR 192")):
        write_mask(tmp_path / "m.dcm", labels(), read_header(series), names)
        seg = pydicom.dcmread(tmp_path / "m.dcm")
        assert (str(seg.PatientName), seg.SpecificCharacterSet) == ("Müßig^Änne", kept)


def test_the_standard_s_own_checker_finds_no_error(tmp_path):
    """DCMTK's dump of the file, every element of which it must know."""
    import shutil

    if shutil.which("dcmdump") is None:
        pytest.skip("DCMTK's dcmdump is not installed: apt-get install dcmtk")
    _, mask = written(tmp_path, Made(), labels())
    done = subprocess.run(["dcmdump", "+E", str(mask)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Unknown" not in done.stdout


def test_other_programs_segmentations_are_read_by_their_numbers(tmp_path):
    if find_spec("dcmqi") is None:
        pytest.skip("dcmqi is not installed: pip install dcmqi")
    made = Made(cosines=(1, 0, 0, 0, -1, 0))
    series = made.write(tmp_path / "s", noise())
    image = SimpleITK.GetImageFromArray(labels().T)
    affine = np.diag([-1, -1, 1, 1]) @ made.affine()
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / (0.7, 0.8, 2.5)).ravel().tolist())
    SimpleITK.WriteImage(image, str(tmp_path / "m.nrrd"))
    code = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    segments = [
        {"labelID": number, "SegmentLabel": f"l{number}", "SegmentDescription": "label 9",
         "SegmentAlgorithmType": "MANUAL", "SegmentedPropertyCategoryCodeSequence": code,
         "SegmentedPropertyTypeCodeSequence": code}
        for number in (1, 2)
    ]  # fmt: skip
    (tmp_path / "meta.json").write_text(json.dumps({"segmentAttributes": [segments], "SeriesNumber": "1"}))
    program = Path(sys.executable).with_name("itkimage2segimage")
    done = subprocess.run(
        [str(program), "--inputImageList", str(tmp_path / "m.nrrd"), "--inputDICOMDirectory", str(series),
         "--outputDICOM", str(tmp_path / "m.dcm"), "--inputMetadata", str(tmp_path / "meta.json")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "m.dcm", read_space(series), VALUES), labels())


def test_masks_elsewhere_overlapping_or_of_other_kinds_are_refused(tmp_path):
    series, mask = written(tmp_path, Made(), labels())
    other = Made(origin=(-101.25, 12.9, 1007)).write(tmp_path / "other", noise())
    with pytest.raises(InputError, match="it does not lie on the voxels of its image; write it on the grid"):
        read_mask(mask, read_space(other), VALUES)
    seg = pydicom.dcmread(mask)
    seg.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0].ImagePositionPatient[2] += 2.5
    seg.save_as(tmp_path / "twice.dcm")
    with pytest.raises(InputError, match="its segments overlap, and a voxel can have one label"):
        read_mask(tmp_path / "twice.dcm", read_space(series), VALUES)
    seg = pydicom.dcmread(mask)
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
    seg.save_as(tmp_path / "skew.dcm")
    with pytest.raises(InputError, match=r"its ImageOrientationPatient 1 0 0 1 0 0 is no pair of perpendicular unit"):
        read_mask(tmp_path / "skew.dcm", read_space(series), VALUES)
    seg.SegmentationType = "FRACTIONAL"
    seg.save_as(tmp_path / "part.dcm")
    with pytest.raises(InputError, match=r"it is no binary DICOM segmentation \(SEG\); give one"):
        read_mask(tmp_path / "part.dcm", read_space(series), VALUES)
    (tmp_path / "cut.dcm").write_bytes(mask.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cut\.dcm: not a readable DICOM file \("):
        read_mask(tmp_path / "cut.dcm", read_space(series), VALUES)
    with pytest.raises(InputError, match=r"a DICOM segmentation is of a DICOM series, which its image is not"):
        write_mask(tmp_path / "n.dcm", labels(), read_header(save_nifti(tmp_path / "n.nii.gz", noise())))


def test_a_series_that_has_gone_or_changed(tmp_path):
    series = Made().write(tmp_path / "s", noise())
    image = read_header(series)
    Made(series="1.2.3").write(series, noise())
    with pytest.raises(InputError, match="its files have changed since they were read; predict it again"):
        write_mask(tmp_path / "m.dcm", labels(), image, NAMES)
    for file in series.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"no segmentation can be written of it \(No such file or directory\)"):
        write_mask(tmp_path / "m.dcm", labels(), image, NAMES)
    assert os.listdir(tmp_path) == ["s"]  # noqa: PTH208


def test_a_nifti_of_a_series_lies_where_it_does(tmp_path):
    made = Made(cosines=AXIAL, step=(0, 0.8, 2.4))
    series = made.write(tmp_path / "s", noise())
    write_mask(tmp_path / "m.nii.gz", labels(), read_header(series))
    np.testing.assert_allclose(load(tmp_path / "m.nii.gz").affine, made.affine(), atol=1e-6)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", read_space(series), VALUES), labels())
