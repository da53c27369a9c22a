"""Finding cases, and refusing bad ones in one line."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.cases import check_cases, declared_values, find_cases, fingerprint
from bench.data.layouts import unused_volumes
from bench.data.volume import read_mask
from bench.errors import InputError
from models.task import PANCREAS
from tests.bench.values import VALUES


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


def quiz_case(root: Path, name: str = "quiz_1_001", split: str = "validation", shape=(20, 21, 22)) -> tuple[Path, Path]:
    folder = root / split / "subtype1"
    image = save(folder / f"{name}_0000.nii.gz", np.zeros(shape, np.int16))
    mask = np.zeros(shape, np.uint8)
    mask[5:9, 5:9, 5:9], mask[6, 6, 6] = 1, 2
    return image, save(folder / f"{name}.nii.gz", mask)


def refusal(root: Path, split: str = "validation") -> str:
    with pytest.raises(InputError) as refused:
        check_cases(find_cases(root, split)[1], PANCREAS, VALUES)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_quiz_layout(tmp_path):
    image, mask = quiz_case(tmp_path)
    quiz_case(tmp_path, "quiz_1_002")
    layout, files = find_cases(tmp_path, "validation")
    assert layout == "quiz"
    assert [case.name for case in files] == ["quiz_1_001", "quiz_1_002"]
    case = check_cases(files, PANCREAS, VALUES)[0]
    assert (case.image, case.mask, case.subtype, case.shape) == (str(image), str(mask), 1, (20, 21, 22))


def test_quiz_test_split_has_no_truth(tmp_path):
    save(tmp_path / "test" / "quiz_037_0000.nii.gz", np.zeros((4, 4, 4), np.int16))
    (case,) = check_cases(find_cases(tmp_path, "test")[1], PANCREAS, VALUES)
    assert (case.name, case.mask, case.subtype) == ("quiz_037", None, None)


@pytest.mark.parametrize("header", ["Names,Subtype", "case_id,label", "name,class"])
def test_nnunet_layout_with_a_table_of_classes(tmp_path, header):
    save(tmp_path / "imagesTr" / "p_01_0000.nii.gz", np.zeros((4, 5, 6), np.int16))
    save(tmp_path / "labelsTr" / "p_01.nii.gz", np.ones((4, 5, 6)))
    (tmp_path / "classes.csv").write_text(f"{header}\np_01.nii.gz,2\n")
    layout, files = find_cases(tmp_path, "train")
    (case,) = check_cases(files, PANCREAS, VALUES)
    assert (layout, case.name, case.subtype) == ("nnunet", "p_01", 2)
    assert case.mask.endswith("labelsTr/p_01.nii.gz")


def test_masks_are_rounded(tmp_path):
    _, mask = quiz_case(tmp_path)
    save(mask, np.full((20, 21, 22), 1.0000152587890625))
    assert check_cases(find_cases(tmp_path, "validation")[1], PANCREAS, VALUES)


def test_fingerprint_follows_content(tmp_path):
    _, mask = quiz_case(tmp_path)
    before = fingerprint(find_cases(tmp_path, "validation")[1])
    assert before == fingerprint(find_cases(tmp_path, "validation")[1])
    save(mask, np.zeros((20, 21, 22), np.uint8))
    assert before != fingerprint(find_cases(tmp_path, "validation")[1])


def test_no_folder(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_no_cases_names_the_other_splits(tmp_path):
    quiz_case(tmp_path, split="train")
    assert "no cases of the split 'validation'; it has train" in refusal(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "expected SPLIT/subtype*/NAME_0000.nii.gz" in refusal(tmp_path / "empty")


@pytest.mark.parametrize("keep", [10, 200, 0.5, 0.98, -1, -9])
def test_truncated_image(tmp_path, keep):
    image, _ = quiz_case(tmp_path, shape=(40, 40, 40))
    values = np.random.default_rng(0).integers(0, 999, (40, 40, 40)).astype(np.int16)
    content = save(image, values).read_bytes()
    image.write_bytes(content[: keep if keep > 1 or keep < 0 else int(len(content) * keep)])
    assert str(image) in refusal(tmp_path)


def test_truncated_before_compression(tmp_path):
    image, _ = quiz_case(tmp_path)
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes())[:-100]))
    assert "damaged or cut short" in refusal(tmp_path)


def test_not_nifti(tmp_path):
    image, _ = quiz_case(tmp_path)
    image.write_text("hello")
    assert "not a readable NIfTI file" in refusal(tmp_path)


def test_4d_image(tmp_path):
    image, _ = quiz_case(tmp_path)
    save(image, np.zeros((20, 21, 22, 2), np.int16))
    assert "_0000.nii.gz: quiz_1_001 has 2 channels, and the network takes 1 (CT); give it these" in refusal(tmp_path)


def test_nan_in_image(tmp_path):
    image, _ = quiz_case(tmp_path)
    values = np.zeros((20, 21, 22))
    values[3, 3, 3] = np.nan
    save(image, values)
    assert "NaN" in refusal(tmp_path)


def test_mask_of_another_shape(tmp_path):
    _, mask = quiz_case(tmp_path)
    save(mask, np.zeros((20, 21, 23), np.uint8))
    assert "the mask is 20 x 21 x 23, its image 20 x 21 x 22" in refusal(tmp_path)


@pytest.mark.parametrize("value", [3, -1, 1.4, np.nan])
def test_unknown_label(tmp_path, value):
    _, mask = quiz_case(tmp_path)
    values = np.zeros((20, 21, 22))
    values[:2, 0, 0] = value
    save(mask, values)
    assert f"unknown label {value:g} in 2 voxels" in refusal(tmp_path)


def test_unknown_subtype(tmp_path):
    quiz_case(tmp_path)
    (tmp_path / "validation" / "subtype1").rename(tmp_path / "validation" / "subtype7")
    assert "unknown subtype 7; the network tells 3 apart, 0 to 2" in refusal(tmp_path)


@pytest.mark.parametrize(("subtypes", "fits"), [(2, True), (4, True), (1, False), (0, True)])
def test_classes_are_those_of_the_network_where_it_has_any(tmp_path, subtypes, fits):
    quiz_case(tmp_path)
    files, task = find_cases(tmp_path, "validation")[1], replace(PANCREAS, classes=("a", "b", "c", "d")[:subtypes])
    if fits:
        assert check_cases(files, task, VALUES)[0].subtype == 1
    else:
        with pytest.raises(InputError, match="unknown subtype 1"):
            check_cases(files, task, VALUES)


def test_two_cases_of_one_name(tmp_path):
    quiz_case(tmp_path)
    save(tmp_path / "validation" / "subtype2" / "quiz_1_001_0000.nii.gz", np.zeros((4, 4, 4)))
    assert "a second case named quiz_1_001" in refusal(tmp_path)


def test_an_identifier_that_ends_like_an_image(tmp_path):
    image, mask = quiz_case(tmp_path, "quiz_1_001_0000")
    quiz_case(tmp_path, "quiz_1_002")
    files = find_cases(tmp_path, "validation")[1]
    assert [case.name for case in files] == ["quiz_1_001_0000", "quiz_1_002"]
    assert (files[0].image_path, files[0].mask_path) == (image, mask)


def test_class_table_that_is_none(tmp_path):
    save(tmp_path / "imagesTr" / "p_0000.nii.gz", np.zeros((4, 5, 6), np.int16))
    (tmp_path / "classes.csv").write_text("name,class\np,benign\n")
    assert "classes.csv: line 2: class 'benign' of p is no whole number" in refusal(tmp_path, "train")


def test_a_mask_and_an_image_may_have_endings_in_capitals(tmp_path):
    image, mask = quiz_case(tmp_path)
    image, mask = (path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ"))) for path in (image, mask))
    _, (case,) = find_cases(tmp_path, "validation")
    assert (case.name, case.image_paths, case.mask_path) == ("quiz_1_001", (image,), mask)


def test_volumes_of_no_case_are_listed_and_a_second_mask_is_refused(tmp_path):
    quiz_case(tmp_path)
    image, _ = quiz_case(tmp_path, "quiz_1_002")
    folder = image.parent
    image.rename(folder / "quiz_1_002_0001.nii.gz")
    (folder / "._quiz_1_001_0000.nii.gz").write_bytes(b"of a Mac")
    _, files = find_cases(tmp_path, "validation")
    expected = [Path("validation/subtype1") / name for name in ("quiz_1_002.nii.gz", "quiz_1_002_0001.nii.gz")]
    assert unused_volumes(tmp_path, "validation", files) == expected
    save(folder / "quiz_1_001.nii", np.zeros((20, 21, 22), np.uint8))
    assert refusal(tmp_path).startswith(f"{folder / 'quiz_1_001.nii'}: a second mask of quiz_1_001 beside {folder}")


def raw_case(root: Path, name: str, mask: np.ndarray | None = None) -> None:
    save(root / "imagesVal" / f"{name}_0000.nii.gz", np.zeros((4, 5, 6), np.int16))
    if mask is not None:
        save(root / "labelsVal" / f"{name}.nii.gz", mask)


def test_a_name_may_end_like_a_channel(tmp_path):
    for name in ("a", "a_0000", "a_0001"):
        raw_case(tmp_path, name, np.ones((4, 5, 6), np.uint8))
    assert [(case.name, case.image_path.name) for case in find_cases(tmp_path, "validation")[1]] == [
        (name, f"{name}_0000.nii.gz") for name in ("a", "a_0000", "a_0001")
    ]


def test_masks_beside_images_are_no_images(tmp_path):
    quiz_case(tmp_path, "a_0000")
    (case,) = find_cases(tmp_path, "validation")[1]
    assert (case.name, case.mask_path.name) == ("a_0000", "a_0000.nii.gz")


def test_further_channels_are_refused(tmp_path):
    raw_case(tmp_path, "a", np.ones((4, 5, 6), np.uint8))
    save(tmp_path / "imagesVal" / "a_0001.nii.gz", np.zeros((4, 5, 6), np.int16))
    assert "a_0001.nii.gz: channel 1 of a, and the network takes 1 (CT); take it out" in refusal(tmp_path)


def test_a_table_that_contradicts_the_folders_is_refused(tmp_path):
    quiz_case(tmp_path)
    (tmp_path / "classes.csv").write_text("name,class\nquiz_1_001,2\n")
    assert "classes.csv: line 2: gives quiz_1_001 class 2, and it lies in " in refusal(tmp_path)
    (tmp_path / "classes.csv").write_text("name,class\nquiz_1_001,1\n")
    assert find_cases(tmp_path, "validation")[1][0].subtype == 1


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"background": 0, "pancreas": 1, "lesion": 2}, (0, 1, 2)),
        ({"background": 0, "lesion": 1, "pancreas": 2}, (0, 2, 1)),
        ({"background": 0, "cancer": 1}, (0, 2)),
        ({"0": "background", "1": "tumour", "2": "cyst", "3": "pancreas"}, (0, 2, 2, 1)),
    ],
)
def test_a_data_set_says_what_its_masks_hold(tmp_path, labels, expected):
    mask = np.zeros((4, 5, 6), np.uint8)
    for value in range(len(expected)):
        mask[value] = value
    raw_case(tmp_path, "a", mask)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    values = declared_values(tmp_path, PANCREAS)
    (case,) = check_cases(find_cases(tmp_path, "validation")[1], PANCREAS, values)
    truth = read_mask(Path(case.mask), None, values)
    assert [int(truth[value, 0, 0]) for value in range(len(expected))] == list(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"labels": {"background": 0, "liver": 1}}',
            "dataset.json: its label 'liver' (1) is none of the task's: background 0, pancreas 1, lesion 2; rename it",
        ),
        (
            '{"labels": {"background": 0, "whole": [1, 2], "lesion": 2}}',
            "dataset.json: its region 'whole' is none of the task's structures: whole pancreas, lesion; rename it",
        ),
        ("{}", "dataset.json: it names no labels"),
        ("{", "dataset.json: Expecting property name"),
        ("[" * 100_000, "dataset.json: maximum recursion depth exceeded"),
    ],
)
def test_a_data_set_that_does_not_say_is_refused(tmp_path, text, said):
    raw_case(tmp_path, "a", np.ones((4, 5, 6), np.uint8))
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError) as refused:
        declared_values(tmp_path, PANCREAS)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
