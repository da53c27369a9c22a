"""Cases of several channels in every layout, and each way in which they can be wrong in one line."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.data.cases import check_cases, declared_values, find_cases, fingerprint
from bench.data.formats import mask_ending
from bench.data.layouts import unused_volumes
from bench.data.remarks import remarks_on
from bench.data.volume import MaskValues, read_image, read_mask, read_space
from bench.data.write import write_mask
from bench.errors import InputError
from models.task import Task, structures_of
from tests.bench.data.headers import AFFINE
from tests.bench.data.volumes import save

SHAPE = (5, 6, 7)
LABELS = {"background": 0, "edema": 1, "tumor": 2}
TASK = Task(name="brain", channels=("FLAIR", "T1w", "T2w"), labels=LABELS, structures=structures_of(LABELS))
VOXELS = np.random.default_rng(0).integers(-100, 1000, (*SHAPE, 3)).astype(np.int16)
MASK = np.zeros(SHAPE, np.uint8)
MASK[1:3, 2:4, 1:5], MASK[2, 3, 2] = 1, 2


def channels(folder: Path, name: str, ending: str = ".nii.gz", count: int = 3) -> list[Path]:
    return [save(folder / f"{name}_{number:04}{ending}", VOXELS[..., number]) for number in range(count)]


def write_quiz(root: Path, ending: str) -> Path:
    channels(root / "validation", "a", ending)
    save(root / "validation" / f"a{ending}", MASK)
    return root


def write_nnunet(root: Path, ending: str) -> Path:
    channels(root / "imagesVal", "a", ending)
    save(root / "labelsVal" / f"a{ending}", MASK)
    names = {str(number): name for number, name in enumerate(TASK.channels)}
    held = {"channel_names": names, "labels": LABELS, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(held))
    return root


def write_decathlon(root: Path, ending: str) -> Path:
    save(root / "imagesTr" / f"a{ending}", VOXELS)
    save(root / "labelsTr" / f"a{ending}", MASK)
    held = {
        "modality": {str(number): name for number, name in enumerate(TASK.channels)},
        "labels": {str(value): name for name, value in LABELS.items()},
        "validation": [{"image": f"./imagesTr/a{ending}", "label": f"./labelsTr/a{ending}"}],
        "training": [],
        "test": [f"./imagesTs/b{ending}"],
    }
    (root / "dataset.json").write_text(json.dumps(held))
    return root


def write_list(root: Path, ending: str) -> Path:
    images = [str(path) for path in channels(root / "a", "a", ending)]  # whole paths
    save(root / f"truth{ending}", MASK)
    (root / "lists").mkdir()
    held = {"validation": [{"image": images, "label": f"../truth{ending}"}]}
    (root / "lists" / "folds.json").write_text(json.dumps(held))
    return root / "lists" / "folds.json"


LAYOUTS = {"quiz": write_quiz, "nnunet": write_nnunet, "decathlon": write_decathlon, "datalist": write_list}


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_of_every_layout_and_format(tmp_path, layout, ending):
    root = LAYOUTS[layout](tmp_path, ending)
    name, files = find_cases(root, "validation")
    values = declared_values(root, TASK) or MaskValues.of(TASK)
    (case,) = check_cases(files, TASK, values)
    assert (name, case.name, case.shape, len(case.images)) == (layout, "a", SHAPE, len(files[0].image_paths))
    volume = read_image(files[0].image_paths)
    np.testing.assert_array_equal(volume.intensities, np.moveaxis(VOXELS, -1, 0).astype(np.float32))
    mask = tmp_path / f"predicted{mask_ending(case.image)}"
    write_mask(mask, MASK, volume.nifti)
    np.testing.assert_array_equal(read_mask(mask, read_space(Path(case.image)), MaskValues.of(TASK)), MASK)
    np.testing.assert_allclose(read_space(mask).affine, AFFINE, atol=1e-6)
    assert unused_volumes(root, "validation", files) == []
    assert remarks_on(files, as_stored=True) == ()


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_4_d_file_is_read_as_nibabel_reads_it(tmp_path, kind, scaled):
    image = kind(VOXELS, AFFINE)
    image.header.set_slope_inter(*((0.37, -11.5) if scaled else (1, 0)))
    nib.save(image, tmp_path / "a.nii.gz")
    expected = np.moveaxis(nib.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32), -1, 0)
    np.testing.assert_array_equal(read_image((tmp_path / "a.nii.gz",)).intensities, expected)


def check(root: Path, task: Task, split: str) -> None:
    _, files = find_cases(root, split)
    declared_values(root, task)
    check_cases(files, task, MaskValues.of(task))


def refusal(root: Path, task: Task = TASK, split: str = "validation") -> str:
    with pytest.raises(InputError) as refused:
        check(root, task, split)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_missing_channel(tmp_path):
    write_nnunet(tmp_path, ".nii.gz")
    images = tmp_path / "imagesVal"
    (images / "a_0002.nii.gz").rename(images / "a_0003.nii.gz")
    assert refusal(tmp_path).startswith(f"{images / 'a_0002.nii.gz'}: no such file, but a_0003.nii.gz is there; ")
    (images / "a_0002.nii").touch()
    (images / "a_0003.nii.gz").rename(images / "a_0002.nii.gz")
    assert "a_0002.nii.gz: a second file of this channel beside a_0002.nii; remove one" in refusal(tmp_path)
    (images / "a_0002.nii").unlink()
    (images / "a_0002.nii.gz").unlink()
    said = "no such file, but the network takes 3 (FLAIR, T1w, T2w); put T2w there"
    assert refusal(tmp_path) == f"{images / 'a_0002.nii.gz'}: {said}"


def test_a_channel_too_many(tmp_path):
    write_nnunet(tmp_path, ".nii.gz")
    (tmp_path / "dataset.json").unlink()
    extra = save(tmp_path / "imagesVal" / "a_0003.nii.gz", VOXELS[..., 0])
    assert refusal(tmp_path) == f"{extra}: channel 3 of a, and the network takes 3 (FLAIR, T1w, T2w); take it out"


@pytest.mark.parametrize(("voxels", "held"), [(VOXELS[..., :2], "2 channels"), (VOXELS[..., 0], "1 channel")])
def test_one_file_with_other_channels(tmp_path, voxels, held):
    image = save(write_decathlon(tmp_path, ".nii.gz") / "imagesTr" / "a.nii.gz", voxels)
    assert refusal(tmp_path) == f"{image}: a has {held}, and the network takes 3 (FLAIR, T1w, T2w); give it these"


def test_channels_apart(tmp_path):
    write_nnunet(tmp_path, ".nii.gz")
    second = save(tmp_path / "imagesVal" / "a_0001.nii.gz", VOXELS[:4, ..., 1])
    assert refusal(tmp_path).startswith(f"{second}: it is 4 x 6 x 7 voxels, and a_0000.nii.gz 5 x 6 x 7; the channels ")
    save(second, VOXELS[..., 1], AFFINE + np.eye(4, k=3))
    assert refusal(tmp_path).startswith(f"{second}: its affine is [-0.8 0 0 31; ")
    save(second, VOXELS)
    assert refusal(tmp_path).startswith(f"{second}: the image is 4-D (5 x 6 x 7 x 3), not 3-D; ")


@pytest.mark.parametrize("layout", ["nnunet", "decathlon"])
def test_what_the_data_set_says_must_be_the_task_s(tmp_path, layout):
    root = LAYOUTS[layout](tmp_path, ".nii.gz")
    turned = replace(TASK, channels=("T1w", "FLAIR", "T2w"))
    said = "its channels are FLAIR, T1w, T2w, and the network takes T1w, FLAIR, T2w; put the images into the network's"
    assert refusal(root, turned).startswith(f"{root / 'dataset.json'}: {said} order")
    other = replace(TASK, labels={"background": 0, "edema": 1, "core": 2})
    said = "its label 'tumor' (2) is none of the task's: background 0, edema 1, core 2; rename it there, or give a task"
    assert refusal(root, other).startswith(f"{root / 'dataset.json'}: {said}")
    swapped = replace(TASK, labels={"background": 0, "edema": 2, "tumor": 1})
    assert declared_values(root, swapped).pairs == ((0, 0), (1, 2), (2, 1))


def test_a_value_that_the_task_does_not_know(tmp_path):
    write_nnunet(tmp_path, ".nii.gz")
    mask = save(tmp_path / "labelsVal" / "a.nii.gz", np.where(MASK == 1, 4, MASK))
    said = "unknown label 4 in 15 voxels; known are 0 background, 1 edema, 2 tumor: relabel the mask"
    assert refusal(tmp_path) == f"{mask}: {said}"


def test_a_split_that_is_not_there_and_files_that_are_not(tmp_path):
    root = write_decathlon(tmp_path, ".nii.gz")
    (root / "labelsTr" / "a.nii.gz").unlink()
    assert refusal(root) == f"{root / 'labelsTr' / 'a.nii.gz'}: no such file"
    save(root / "imagesTs" / "b.nii.gz", VOXELS)
    assert find_cases(root, "test")[1][0].mask_path is None
    assert "no cases of the split 'train'; it has validation and test: choose with --split" in refusal(
        root, split="train"
    )
    (root / "list.txt").write_text("{}")
    assert "no such folder; give --data a folder" in refusal(root / "list.txt")


def test_nnunet_s_first_version_lists_cases_without_their_channel(tmp_path):
    root = write_nnunet(tmp_path, ".nii.gz")
    listed = {"validation": [{"image": "./imagesVal/a.nii.gz", "label": "./labelsVal/a.nii.gz"}]}
    (root / "dataset.json").write_text(json.dumps(listed | {"labels": {"0": "background", "1": "edema", "2": "tumor"}}))
    assert find_cases(root, "validation")[0] == "nnunet"


def test_voxels_beside_a_header_are_part_of_what_identifies_a_case(tmp_path):
    write_quiz(tmp_path, ".mhd")
    files = find_cases(tmp_path, "validation")[1]
    before = fingerprint(files)
    raw = tmp_path / "validation" / "a_0001.raw"
    raw.write_bytes(raw.read_bytes()[:-1] + b"\x01")
    assert fingerprint(files) != before
