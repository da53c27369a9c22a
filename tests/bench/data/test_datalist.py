"""Lists of cases, as the Decathlon and MONAI write them."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.datalist import entries_of
from bench.data.formats import load
from bench.errors import InputError

FILE = Path("data/dataset.json")


def test_the_decathlon_s_lists():
    held = {
        "training": [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
        "test": ["./imagesTs/BRATS_485.nii.gz"],
    }
    (case,) = entries_of(FILE, held, "train")
    assert (case.name, case.image_paths) == ("BRATS_001", (Path("data/imagesTr/BRATS_001.nii.gz"),))
    assert case.mask_path == Path("data/labelsTr/BRATS_001.nii.gz")
    (case,) = entries_of(FILE, held, "test")
    assert (case.name, case.mask_path) == ("BRATS_485", None)
    assert entries_of(FILE, held, "validation") == []


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ([["a_0000.nrrd", "a_0001.nrrd"], ["b_0000.nrrd", "b_0001.nrrd"]], ["a", "b"]),
        ([["BraTS-7-000-t1n.mha", "BraTS-7-000-t1c.mha"], ["BraTS-8-000-t1n.mha"]], ["BraTS-7-000", "BraTS-8-000-t1n"]),
        ([["p1/flair.nii", "p1/t1.nii"], ["p2/flair.nii", "p2/t1.nii"]], ["p1", "p2"]),
        (["/far/p1/ct.nii.gz", "/far/p2/ct.nii.gz"], ["p1", "p2"]),
        (
            [["images/T1_001.nii.gz", "images/T2_001.nii.gz"], ["images/T1_002.nii.gz", "images/T2_002.nii.gz"]],
            ["001", "002"],
        ),
        (
            [["brain_T1_001.nii", "brain_T2_001.nii"], ["brain_T1_002.nii", "brain_T2_002.nii"]],
            ["brain_001", "brain_002"],
        ),
        (["p1/anat/image.nii.gz", "p2/anat/image.nii.gz"], ["p1", "p2"]),
        ([["p1/anat/T1.nii", "p1/anat/T2.nii"], ["p2/anat/T1.nii", "p2/anat/T2.nii"]], ["p1", "p2"]),
        (["p1/a/ct.nii", "p1/b/ct.nii", "p2/a/ct.nii"], ["p1_a", "p1_b", "p2_a"]),
    ],
)
def test_cases_are_named_after_files_or_folders(images, names):
    entries = entries_of(FILE, {"val": [{"image": image} for image in images]}, "validation")
    assert [entry.name for entry in entries] == names
    first = images[0] if isinstance(images[0], str) else images[0][0]
    assert entries[0].image_paths[0] == FILE.parent / first


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a.nii": "b.nii"}, "'training' is not a list of cases"),
        ([{"label": "a.nii"}], "entry 1 of 'training' has 'None' where the path of an image or mask is expected"),
        (["a.nii", {"image": ["b.nii", 3]}], "entry 2 of 'training' has '3' where"),
        ([{"image": "a.nii", "label": 2}], "entry 1 of 'training' has '2' where"),
        (["a.dcm"], "entry 1 of 'training' has 'a.dcm', which is DICOM: it can be predicted"),
        ([""], "entry 1 of 'training' has '' where"),
    ],
)
def test_entries_that_are_none_are_refused(entries, said):
    with pytest.raises(InputError, match=rf"data/dataset\.json: {said}"):
        entries_of(FILE, {"training": entries}, "train")


def test_a_dicom_series_is_converted_before_it_is_measured(tmp_path):
    """As the how-to has it."""
    pytest.importorskip("pydicom", reason="pydicom is not installed: pip install '.[dicom]'")
    from tests.bench.data.dicom.made import Made, noise

    series = Made().write(tmp_path / "CT_abdomen", noise())
    said = "entry 1 of 'validation' has 'CT_abdomen', which is DICOM: it can be predicted, by `bench predict` with its "
    with pytest.raises(InputError, match=re.escape(said)):
        entries_of(tmp_path / "list.json", {"validation": [{"image": "CT_abdomen"}]}, "validation")
    image = load(series)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype="float32"), image.affine), tmp_path / "CT_abdomen.nii.gz")
    listed = {"validation": [{"image": "CT_abdomen.nii.gz"}]}
    (entry,) = entries_of(tmp_path / "list.json", listed, "validation")
    converted = nib.load(entry.image_paths[0])
    np.testing.assert_array_equal(converted.get_fdata(), image.get_fdata())
    np.testing.assert_allclose(converted.affine, image.affine, atol=1e-4)
