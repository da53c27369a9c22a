"""What is a case: files, folders, data sets, channels; and what is refused before anything starts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.data.volume import read_header
from bench.errors import InputError
from bench.predict.inputs import batch_case, list_cases, refuse_folder


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * (1 + len(name)))
    return root


def listed(*inputs: Path, split: str | None = None) -> dict[str, list[str]]:
    return {case.name: [path.name for path in case.image_paths] for case in list_cases(inputs, split)}


def test_every_image_in_a_folder_is_a_case(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.nrrd", "scan_2021.nii", "scan_2022.nii", "notes.txt", ".a.nii.gz", "model.pth")
    assert listed(tmp_path) == {
        "a": ["a.nrrd"], "b": ["b.nii.gz"], "scan_2021": ["scan_2021.nii"], "scan_2022": ["scan_2022.nii"],
    }  # fmt: skip
    assert [batch_case(case).mask for case in list_cases([tmp_path], None)] == [
        "a.nrrd", "b.nii.gz", "scan_2021.nii.gz", "scan_2022.nii.gz",
    ]  # fmt: skip


def test_numbered_files_are_the_channels_of_one_case_and_their_mask_is_none(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "a.nii.gz", "b_0000.nii.gz", "c.nii.gz")
    expected = {"a": ["a_0000.nii.gz", "a_0001.nii.gz"], "b": ["b_0000.nii.gz"], "c": ["c.nii.gz"]}
    assert listed(tmp_path) == expected
    assert listed(*tmp_path.iterdir()) == expected, "as a shell names them"
    assert listed(tmp_path / "a_0000.nii.gz") == {"a": ["a_0000.nii.gz"]}


def test_endings_count_in_capitals_too(tmp_path):
    touch(tmp_path, "A_0000.NII.GZ", "A_0001.nii.gz", "A.Nii", "B.NRRD", "c.MHA")
    assert listed(tmp_path) == {"A": ["A_0000.NII.GZ", "A_0001.nii.gz"], "B": ["B.NRRD"], "c": ["c.MHA"]}
    assert [batch_case(case).mask for case in list_cases([tmp_path], None)] == ["A.nii.gz", "B.nrrd", "c.mha"]
    assert listed(*tmp_path.iterdir()) == listed(tmp_path)


def notes(*inputs: Path, split: str | None = None) -> list[str]:
    said = list[str]()
    list_cases(inputs, split, said.append)
    return said


def test_what_is_passed_by_is_said(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a.nii.gz", "sub/c.nii.gz", ".trash/d.nii.gz", "sub/notes.txt", "own/b.nii")
    touch(tmp_path, "masks/a.nii.gz", "masks/predictions.jsonl")  # of an earlier call
    remedy = "name what is to be predicted as an input of its own"
    left = f"{tmp_path}: 2 volumes of no case were left out (own/b.nii, sub/c.nii.gz); {remedy}"
    assert notes(tmp_path) == [left]
    assert notes(tmp_path, tmp_path / "own") == [
        f"{tmp_path}: 1 volume of no case was left out (sub/c.nii.gz); {remedy}"
    ]
    assert notes(tmp_path / "sub" / "c.nii.gz") == notes(tmp_path / "own") == []


@pytest.mark.parametrize("split", [None, "validation"])
def test_so_it_is_in_the_splits_of_a_data_set(tmp_path, split):
    nnunet(tmp_path)
    touch(tmp_path, "imagesVal/more/q_3_0000.nii.gz", "imagesTr/q_1.nii.gz", "results/q_1.nii.gz")
    left = ["imagesTr/q_1.nii.gz"] if split is None else []
    (note,) = notes(tmp_path, split=split)
    assert f"({', '.join([*left, 'imagesVal/more/q_3_0000.nii.gz'])})" in note


def test_images_beside_and_below_a_series_are_passed_by(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from tests.bench.data.dicom.made import Made

    voxels = np.zeros((8, 7, 3), np.int16)
    for folder in ("ct", "ct/late", "pet/deep/down"):
        Made().write(tmp_path / folder, voxels)
    touch(tmp_path, "ct/a.nii.gz")
    assert list(listed(tmp_path)) == ["ct"]
    assert "3 volumes of no case were left out (ct/a.nii.gz, ct/late, pet/deep/down)" in notes(tmp_path)[0]
    assert "2 volumes of no case were left out (a.nii.gz, late)" in notes(tmp_path / "ct")[0]
    assert notes(tmp_path / "pet" / "deep" / "down") == []


def test_a_channel_that_is_left_out_is_the_fault_of_its_case_alone(tmp_path):
    touch(tmp_path, "a_0000.nii", "a_0002.nii", "b_0000.nii", "b_0001.nii", "c_0001.nii")
    a, b, c = list_cases([tmp_path], None)
    assert (
        a.fault
        == f"{tmp_path / 'a_0001.nii'}: no such file, but a_0002.nii is there; put in the channel that is missing"
    )
    assert (b.fault, c.fault, c.name) == ("", "", "c_0001")


def test_so_it_is_in_a_data_set(tmp_path):
    touch(tmp_path, "imagesTs/a_0000.nii", "imagesTs/a_0002.nii", "imagesTs/b_0000.nii")
    a, b = list_cases([tmp_path], None)
    assert a.fault.startswith(f"{tmp_path / 'imagesTs' / 'a_0001.nii'}: no such file, but a_0002.nii is there")
    assert b.fault == ""


def quiz(root: Path) -> Path:
    return touch(root, "train/subtype0/q_1_0000.nii.gz", "train/subtype0/q_1.nii.gz", "validation/q_2_0000.nii.gz")


def nnunet(root: Path) -> Path:
    (touch(root, "imagesTr/q_1_0000.nii.gz", "imagesVal/q_2_0000.nii.gz") / "dataset.json").write_text("{}")
    return root


def decathlon(root: Path) -> Path:
    held = {"training": [{"image": "./q_1.nii.gz", "label": "./m_1.nii.gz"}], "validation": ["./q_2.nii.gz"]}
    (touch(root, "q_1.nii.gz", "q_2.nii.gz", "m_1.nii.gz") / "dataset.json").write_text(json.dumps(held))
    return root


@pytest.mark.parametrize("write", [quiz, nnunet, decathlon, lambda root: decathlon(root) / "dataset.json"])
def test_data_sets_give_all_their_splits_or_the_one_that_is_named(tmp_path, write):
    root = write(tmp_path)
    assert list(listed(root)) == ["q_1", "q_2"]
    assert list(listed(root, split="validation")) == ["q_2"]
    assert all(case.mask_path is None and case.subtype is None for case in list_cases([root], None))
    with pytest.raises(
        InputError, match=r"no cases of the split 'test'; it has train and validation: choose with --split"
    ):
        list_cases([root], "test")


def test_the_images_of_a_split_alone_are_a_folder_of_images(tmp_path):
    nnunet(tmp_path)
    assert list(listed(tmp_path / "imagesVal")) == ["q_2"]
    with pytest.raises(InputError, match="no cases of the split 'test'"):
        list_cases([tmp_path / "imagesVal"], "test")


def test_two_cases_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "1/a.nii.gz", "2/a_0000.nii.gz", "3/a.nii", "3/a.nrrd")
    for inputs in ((tmp_path / "1", tmp_path / "2"), (tmp_path / "3",)):
        with pytest.raises(InputError, match=r"a second case named a beside .*; rename one, or choose one") as refused:
            list_cases(inputs, None)
        assert "\n" not in str(refused.value)
    assert list(listed(tmp_path / "1", tmp_path / "1")) == ["a"], "what is named twice is there once"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "no such file or folder; give an image"),
        ("notes.txt", r"its name ends in none of \.nii\.gz, \.nii"),
        ("empty", "holds no image; give an image, a folder of images"),
        ("list.json", "no cases of the split"),
    ],
)
def test_what_is_no_input(tmp_path, name, said):
    touch(tmp_path, "notes.txt", "empty/notes.txt")
    (tmp_path / "list.json").write_text("{}")
    with pytest.raises(InputError, match=f"{name}: .*{said}"):
        list_cases([tmp_path / name], None)


def test_a_series_is_a_case_of_all_its_files(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from tests.bench.data.dicom.made import Made

    touch(tmp_path, "c.nii.gz")
    for folder in ("one", "two"):
        Made().write(tmp_path / folder, np.zeros((8, 7, 3), np.int16))
    assert listed(tmp_path) == {"c": ["c.nii.gz"], "one": ["one"], "two": ["two"]}
    (case,) = list_cases([tmp_path / "one"], None)
    assert (case.name, case.image_paths) == ("one", (tmp_path / "one",))
    before = batch_case(case).images[0]
    touch(tmp_path, "one/more.dcm")
    after = batch_case(case).images[0]
    assert before.size is not None
    assert before.size < (after.size or 0)


def test_a_file_that_holds_a_whole_series_is_a_case(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from tests.bench.data.dicom.made import Made

    voxels = np.zeros((8, 7, 3), np.int16)
    for name in ("scan.dcm", "scan.DCM"):
        Made().write_frames(tmp_path / name, voxels)
        (case,) = list_cases([tmp_path / name], None)
        assert (case.name, case.image_paths, batch_case(case).mask) == ("scan", (tmp_path / name,), "scan.dcm")
    assert read_header(case.image_path).shape == voxels.shape
    (file, *_) = sorted(Made().write(tmp_path / "slices", voxels).iterdir())
    file = file.rename(tmp_path / "slice.dcm")
    with pytest.raises(InputError, match=r"slice\.dcm: holds no whole DICOM image; give the folder of its series"):
        list_cases([file], None)


def test_a_changed_image_is_noticed_also_in_the_file_of_its_voxels(tmp_path):
    (tmp_path / "a.mhd").write_text("ObjectType = Image\nNDims = 3\nElementDataFile = a.raw\n")
    (tmp_path / "a.raw").write_bytes(bytes(64))
    (case,) = list_cases([tmp_path / "a.mhd"], None)
    before = batch_case(case).images
    os.utime(tmp_path / "a.raw", ns=(0, 2**62))
    assert batch_case(case).images[0].content != before[0].content
    (tmp_path / "a.mhd").unlink()
    assert batch_case(case).images[0].content == (None, None)


def test_masks_do_not_go_where_the_images_lie(tmp_path):
    cases = list_cases([touch(tmp_path / "images", "a.nii.gz")], None)
    with pytest.raises(InputError, match="holds the images that are predicted; choose another --out"):
        refuse_folder(tmp_path / "images" / ".." / "images", cases)
    refuse_folder(tmp_path, cases)
