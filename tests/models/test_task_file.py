"""Tasks as users write them: what they say, and one clear line for what cannot be meant."""

from pathlib import Path

import pytest

from models.task import PANCREAS, TOLERANCE_MM, Region, Structure, TaskError
from models.task_file import read_task, task_from_values, task_values

BRAIN = """
channels = ["T1c", "FLAIR"]
ignore = 255
classes = ["low grade", "high grade"]
foreground_ml = [1, 200.5]
painting = ["whole tumour", "tumour core"]

[labels]
background = 0
edema = 2
core = 1

[structures."tumour core"]
labels = ["core"]
max_dsc_drop = 0.01
dsc_target = 0.8

[structures."whole tumour"]
labels = ["edema", 1]
nsd_tolerance_mm = 3
critical = false

[[regions]]
structure = "tumour core"
label = "core"

[[regions]]
structure = "whole tumour"
label = "edema"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "brain.toml"
    path.write_text(text)
    return path


def test_a_task_file_says_everything(tmp_path: Path) -> None:
    task = read_task(written(tmp_path, BRAIN))
    assert (task.name, task.channels, task.ignore) == ("brain", ("T1c", "FLAIR"), 255)
    assert task.structures == {
        "tumour core": Structure(labels=(1,), max_dsc_drop=0.01, dsc_target=0.8),
        "whole tumour": Structure(labels=(2, 1), nsd_tolerance_mm=3, critical=False),
    }
    assert task.regions == (Region(structure="tumour core", label=1), Region(structure="whole tumour", label=2))
    assert (task.output_labels, task.output_painting) == ((1, 2), (1, 0))
    assert (task.classes, task.foreground_ml) == (("low grade", "high grade"), (1.0, 200.5))
    assert set(task.sources.values()) == {"--task brain.toml"}
    assert task_from_values(task_values(task), "--task brain.toml") == task


def test_without_structures_each_label_is_one(tmp_path: Path) -> None:
    task = read_task(written(tmp_path, 'channels = ["CT"]\n[labels]\nbackground = 0\nliver = 1\ncyst = 7\n'))
    assert task.structures == {"liver": Structure(labels=(1,)), "cyst": Structure(labels=(7,))}
    assert task.structures["liver"].nsd_tolerance_mm == TOLERANCE_MM
    assert task_from_values(task_values(PANCREAS), "built in").structures == PANCREAS.structures


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("channels =", "chanels =", "unknown key chanels; known are name, channels, labels"),
        ("max_dsc_drop =", "max_dice_drop =", "unknown key structures.tumour core.max_dice_drop; known are labels"),
        (
            'labels = ["core"]',
            'labels = ["coer"]',
            "structures.tumour core.labels names 'coer', which is no label; there",
        ),
        ("max_dsc_drop = 0.01", "max_dsc_drop = 1.01", "max_dsc_drop is 1.01, not a number from 0 to 1"),
        ("nsd_tolerance_mm = 3", "nsd_tolerance_mm = nan", "nsd_tolerance_mm is nan, not a number from 0"),
        ("critical = false", "critical = 0", "critical is 0, not true or false"),
        ("edema = 2", "edema = 2.5", "labels.edema is 2.5, not a whole number"),
        ("edema = 2", "edema = 300", "label 300 is not between 0 and 255"),
        ("background = 0", "", "no label is 0, the background"),
        (
            '"whole tumour", "tumour core"]',
            '"whole tumour"]',
            "the painting order (1,) does not name each of 2 regions",
        ),
        (
            'structure = "tumour core"',
            'structure = "core"',
            "painting names 'tumour core', which is no region; there are",
        ),
        ("ignore = 255", "ignore = 1", "the value 1 is a label and ignored too"),
        ("foreground_ml = [1, 200.5]", "foreground_ml = [300, 5]", "foreground_ml is [300, 5], not two rising volumes"),
        ('channels = ["T1c", "FLAIR"]', "channels = []", "it names no channel"),
        ("[labels]", "[labels", "is no TOML file (Expected ']'"),
    ],
)
def test_a_task_that_cannot_be_meant_is_one_line_with_the_file(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, BRAIN.replace(old, new, 1))
    with pytest.raises(TaskError) as refused:
        read_task(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert message.endswith("; correct it")
    assert "\n" not in message


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"nothing\.toml: cannot be read \(No such file or directory\); name a TOML"):
        read_task(tmp_path / "nothing.toml")
