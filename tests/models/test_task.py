"""What a task says of the channels that its network gives."""

from dataclasses import replace

import pytest

from models.task import PANCREAS, Structure, Task, TaskError

BRAIN = Task(
    name="brain",
    channels=("FLAIR", "T1w", "T1gd", "T2w"),
    labels={"background": 0, "core": 1, "edema": 2, "enhancing": 4},
    structures={
        "TC": Structure(labels=(1, 4)),
        "WT": Structure(labels=(1, 2, 4)),
        "ET": Structure(labels=(4,)),
    },
    regions=("TC", "WT", "ET"),
    painting=(("WT", 2), ("TC", 1), ("ET", 4)),
)


def test_task_says_which_label_each_channel_is_and_in_which_order_regions_are_painted() -> None:
    assert (BRAIN.output_labels, BRAIN.output_painting) == ((1, 2, 4), (1, 0, 2))
    shuffled = replace(PANCREAS, labels={"lesion": 7, "background": 0, "pancreas": 3})
    assert (shuffled.output_labels, shuffled.output_painting) == ((0, 3, 7), None)


@pytest.mark.parametrize(
    ("painting", "said"),
    [
        ((("WT", 2), ("TC", 1)), "has the regions TC, WT, ET and paints WT, TC: each region has to be painted once"),
        ((("WT", 2), ("TC", 1), ("ET", 3)), "paints ET with 3, which is none of its labels"),
    ],
)
def test_painting_that_contradicts_the_regions_or_the_labels_is_refused(
    painting: tuple[tuple[str, int], ...], said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        replace(BRAIN, painting=painting)
