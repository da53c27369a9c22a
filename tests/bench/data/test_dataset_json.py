"""What a data set says of its channels and labels, against the task."""

from dataclasses import replace

import pytest

from bench.data.dataset_json import mask_values, read_json, refuse_channels
from bench.data.volume import MaskValues
from bench.errors import InputError
from models.task import PANCREAS, Structure, Task, TaskError, structures_of

LABELS = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
BRAIN = Task(
    name="brain", channels=("FLAIR", "T1w", "t1gd", "T2w"), labels=LABELS, structures=structures_of(LABELS), ignore=4
)
REGIONS = replace(
    BRAIN, structures={"whole tumor": Structure(labels=(1, 2, 3)), "enhancing tumour": Structure(labels=(3,))}
)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"background": 0, "pancreas": 1, "lesion": 2}, {0: 0, 1: 1, 2: 2}),
        ({"background": 0, "Lesion": 1, "Pancreas": 2}, {0: 0, 1: 2, 2: 1}),
        ({"background": 0, "cancer": 1}, {0: 0, 1: 2}),
        ({"0": "background", "1": "tumour", "2": "cyst", "3": "pancreas"}, {0: 0, 1: 2, 2: 2, 3: 1}),
        ({"pancreas": 7, "normal_pancreas": "9"}, {0: 0, 7: 1, 9: 1}),
    ],
)
def test_values_are_mapped_by_names(labels, expected):
    assert mask_values({"labels": labels}, PANCREAS).labels == expected


def test_names_are_those_of_the_data_set_and_ignored_voxels_stay_so():
    held = {"labels": {"background": 0, "Non_Enhancing Tumor": 1, "ignore": 9}}
    names = {0: "background", 1: "Non_Enhancing Tumor", 9: "ignore"}
    assert mask_values(held, BRAIN) == MaskValues({0: 0, 1: 2, 9: 4}, names)
    assert 9 not in mask_values(held, replace(BRAIN, ignore=None)).labels


def test_regions_must_be_the_task_s():
    labels = {"background": 0, "Whole Tumor": [1, 2, 3], "enhancing tumour": 3}
    values = mask_values({"labels": labels}, REGIONS)
    assert values.labels == {0: 0, 1: 1, 2: 2, 3: 3}
    assert values.names[1] == "edema"


@pytest.mark.parametrize(
    ("task", "labels", "said"),
    [
        (PANCREAS, {}, "it names no labels"),
        (
            PANCREAS,
            {"background": 0, "liver": 1},
            r"its label 'liver' \(1\) is none of the task's: background 0, pancreas 1, lesion 2; rename it",
        ),
        (PANCREAS, {"background": 0, "pancreas": 1, "lesion": 1}, "'pancreas' and 'lesion' have the same value 1"),
        (PANCREAS, {"0": "background", "1": "lesion", "2": "lesion"}, "its values 1 and 2 are both 'lesion'"),
        (PANCREAS, {"background": 0, "lesion": 1.5}, r"its label 'lesion' is 1\.5, no whole number from 0 to 255"),
        (PANCREAS, {"background": 0, "lesion": 256}, "its label 'lesion' is 256, no whole number"),
        (PANCREAS, {"background": 0, "whole": [1, 2]}, "its region 'whole' is none of the task's structures"),
        (
            REGIONS,
            {"background": 0, "whole tumor": [1, 2], "enhancing tumour": 3},
            "its region 'whole tumor' has the values 1, 2, and in the task 1, 2, 3; correct the one that is wrong",
        ),
        (BRAIN, {"background": 0, "edema": 1, "ignore": 1}, "'edema' and 'ignore' have the same value 1"),
    ],
)
def test_what_contradicts_the_task_is_refused(task, labels, said):
    with pytest.raises(TaskError, match=said) as refused:
        mask_values({"labels": labels}, task)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "channels",
    [
        {"channel_names": {"1": "t1w", "0": "flair", "2": "T1Gd", "3": "T2W"}},
        {"modality": {"0": "zscore", "1": "zscore", "2": "zscore", "3": "zscore"}},
        {"channel_names": {"0": "T1", "1": "T1w", "2": "T1c", "3": "T2w"}},
        {},
    ],
)
def test_channels_that_may_be_the_task_s(channels):
    refuse_channels(channels, BRAIN)


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (["T1w", "FLAIR", "t1gd", "T2w"], "its channels are T1w, FLAIR, .*; put the images into the network's order"),
        (["FLAIR", "T2", "T1w", "t1c"], "put the images into the network's order"),
        (["FLAIR", "T2w"], r"have 2 channels \(FLAIR, T2w\), and the network takes 4 channels \(FLAIR, T1w, t1gd, T2w"),
    ],
)
def test_channels_that_are_not_are_refused(channels, said):
    with pytest.raises(TaskError, match=said):
        refuse_channels({"channel_names": {str(i): name for i, name in enumerate(channels)}}, BRAIN)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "Expecting property name"), ("[1]", "it holds a list"), ("[" * 100_000, "maximum recursion depth")],
)
def test_json_that_is_no_object_is_refused(tmp_path, text, said):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=rf"dataset\.json: {said}"):
        read_json(tmp_path / "dataset.json")
