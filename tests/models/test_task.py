"""What a task says of the channels that its network gives, and what it may not say."""

from dataclasses import replace

import pytest

from models.task import PANCREAS, Region, Structure, Task, TaskError, difference

BRAIN = Task(
    name="brain",
    channels=("FLAIR", "T1w", "T1gd", "T2w"),
    labels={"background": 0, "core": 1, "edema": 2, "enhancing": 4},
    structures={
        "TC": Structure(labels=(1, 4)),
        "WT": Structure(labels=(1, 2, 4)),
        "ET": Structure(labels=(4,)),
    },
    regions=(Region(structure="TC", label=1), Region(structure="WT", label=2), Region(structure="ET", label=4)),
    painting=(1, 0, 2),
)


def test_task_says_which_label_each_channel_is_and_in_which_order_regions_are_painted() -> None:
    assert (BRAIN.output_labels, BRAIN.output_painting) == ((1, 2, 4), (1, 0, 2))
    assert replace(BRAIN, painting=()).output_painting == (0, 1, 2)
    shuffled = replace(PANCREAS, labels={"lesion": 7, "background": 0, "pancreas": 1}, structures=PART)
    assert (shuffled.output_labels, shuffled.output_painting) == ((0, 1, 7), None)


PART = {"pancreas": Structure(labels=(1,))}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"painting": (1, 0)}, r"the painting order \(1, 0\) does not name each of 3 regions once"),
        (
            {"regions": (Region(structure="TC", label=3),)},
            "the region TC is painted as 3, which is no foreground label",
        ),
        ({"regions": (Region(structure="NT", label=1),)}, "a region is of NT, which is no structure"),
        ({"structures": {"TC": Structure(labels=(1, 3))}}, "the structure TC has the label 3, which is none"),
        (
            {"structures": {"TC": Structure(labels=(0, 1))}},
            "the structure TC has no foreground label, or the background",
        ),
        ({"structures": {}}, "it names no structure to score"),
        ({"labels": {"core": 1, "edema": 2, "enhancing": 4}}, "no label is 0, the background"),
        ({"labels": BRAIN.labels | {"cyst": 4}}, "the labels enhancing and cyst have the same value 4"),
        ({"labels": BRAIN.labels | {"cyst": 256}}, "label 256 is not between 0 and 255"),
        ({"ignore": 4}, "the value 4 is a label and ignored too"),
        ({"channels": ()}, "it names no channel"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        replace(BRAIN, **{"painting": (), **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "other", "channels": ("T2 FLAIR", "T1w", "T1gd", "T2w")}, None),
        ({"labels": {"background": 0, "1": 1, "2": 2, "4": 4}, "ignore": 9}, None),
        ({"channels": ("T1w",)}, "the channels FLAIR, T1w, T1gd, T2w and T1w"),
        ({"channels": ("t1w", "flair", "T1gd", "T2w")}, "the channels FLAIR, T1w, T1gd, T2w and t1w, flair, T1gd, T2w"),
        ({"painting": ()}, "regions painted in the order (1, 0, 2) and (0, 1, 2)"),
        ({"regions": (), "painting": ()}, "regions painted in the order (1, 0, 2) and None"),
        ({"labels": {"background": 0, "core": 2, "edema": 1, "enhancing": 4}}, "the labels 1 and 2 of core"),
        (
            {"structures": BRAIN.structures | {"WT": Structure(labels=(1, 2))}},
            "the labels 1, 2, 4 of WT and 1, 2 of WT",
        ),
    ],
)
def test_two_tasks_of_one_network_may_use_other_names_only(changes: dict, said: str | None) -> None:
    assert difference(BRAIN, replace(BRAIN, **changes)) == said


def test_two_labels_to_ignore_and_labels_behind_many_others_are_a_difference() -> None:
    assert difference(replace(BRAIN, ignore=7), replace(BRAIN, ignore=9)) == "the values 7 and 9 to ignore"
    labels = {str(label): label for label in range(20)}
    many = replace(BRAIN, labels=labels, regions=(), painting=(), structures=PART)
    other = replace(many, labels={**labels, "19": 30})
    assert difference(many, other) == "the labels 19 and 30 of output 19"
    assert difference(many, replace(BRAIN, painting=(), regions=())) == "20 and 4 outputs"
