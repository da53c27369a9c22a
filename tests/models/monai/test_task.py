"""What a bundle's metadata says of its network's channels, labels and structures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import CheckpointError
from models.model import Transforms
from models.monai.config import Config
from models.monai.task import Meaning, channels_of, meaning_of
from models.task import PANCREAS, Region, Structure, Task

ARGMAX = Transforms(preprocessing=(), postprocessing=(("AsDiscreted", {"argmax": True}),))
SIGMOID = Transforms(preprocessing=(), postprocessing=(("Activationsd", {"sigmoid": True}),))
BRATS = ((1, 2), (0, 1), (2, 4))


def described(inputs: Any = None, outputs: Any = None, **values: Any) -> Config:
    data = {"network_data_format": {"inputs": {"image": inputs}, "outputs": {"pred": outputs}}}
    return Config(Path("spleen"), Path("spleen/configs/inference.json"), {"_meta_": data} | values)


def meaning(outputs: Any, classes: int, steps: Transforms = ARGMAX, painting: Any = None, **values: Any) -> Meaning:
    named = None if outputs is None else {"channel_def": {str(at): name for at, name in enumerate(outputs)}}
    return meaning_of(described(outputs=named, **values), ("CT",), classes, steps, painting)


@pytest.mark.parametrize(
    ("inputs", "wanted", "channels"),
    [
        ({"num_channels": 1, "modality": "CT", "channel_def": {"0": "image"}}, 1, ("CT",)),
        ({"num_channels": 1, "modality": "none", "channel_def": {"0": "image"}}, 1, ("image",)),
        ({"num_channels": 2, "channel_def": {"1": "ADC", "0": "T2"}}, 2, ("T2", "ADC")),
        ({"num_channels": 3, "modality": "CT", "channel_def": {"0": "image"}}, 3, ("image 0", "image 1", "image 2")),
        ({"channel_def": {"0": "T1", "1": "T1"}}, None, ("T1", "T1 (1)")),
        ({"num_channels": "x", "channel_def": "x"}, 2, ("image 0", "image 1")),
        (None, None, ("image",)),
    ],
)
def test_channels(inputs: Any, wanted: Any, channels: tuple[str, ...]) -> None:
    assert channels_of(described(inputs), wanted) == channels


def test_labels_are_the_numbers_of_the_channels() -> None:
    found = meaning(["background", "spleen", "spleen", ""], 4)
    assert (found.labels, found.painting, found.task.name) == ((0, 1, 2, 3), None, "spleen")
    assert found.task.labels == {"background": 0, "spleen": 1, "spleen (2)": 2, " (3)": 3}
    assert found.task.structures["spleen (2)"] == Structure(labels=(2,))
    assert set(found.task.sources.values()) == {"the bundle's metadata.json"}
    assert list(meaning(["background", *map(str, range(132))], 133).labels) == list(range(133))


def test_names_may_stand_in_the_configuration_or_nowhere() -> None:
    named = meaning(None, 3, labels={"background": 0, "spleen": 2, "liver": 1})
    assert (named.task.labels, named.remarks) == ({"background": 0, "liver": 1, "spleen": 2}, ())
    assert meaning(None, 3).task.labels == {"background": 0, "class 1": 1, "class 2": 2}
    assert meaning(None, 3).remarks == ("its metadata names no output channels: they are numbered",)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["background", "Tumour", "Pancreas"], (0, 2, 1)),
        (["everything else", "pancreas", "pancreatic tumor"], (0, 1, 2)),
        (["background", "pancreas"], (0, 1)),
    ],
)
def test_the_pancreas_has_the_structures_of_the_built_in_task(names: list[str], labels: tuple[int, ...]) -> None:
    found = meaning(names, len(names))
    assert (found.labels, found.task.structures, found.task.name) == (labels, PANCREAS.structures, "pancreas")


def test_regions_hold_what_is_painted_after_them() -> None:
    found = meaning(["Tumor core", "Whole tumor", "Enhancing tumor"], 3, SIGMOID, BRATS)
    assert (found.labels, found.painting) == ((1, 2, 4), (1, 0, 2))
    assert found.task.labels == {"background": 0, "Tumor core": 1, "Whole tumor": 2, "Enhancing tumor": 4}
    assert {name: set(of.labels) for name, of in found.task.structures.items()} == {
        "Tumor core": {1, 4}, "Whole tumor": {1, 2, 4}, "Enhancing tumor": {4},
    }  # fmt: skip
    assert (found.task.output_labels, found.task.output_painting) == (found.labels, found.painting)
    single = meaning(["lesion"], 1, SIGMOID)
    assert (single.labels, single.painting) == ((1,), (0,))


SPLEEN = Task(name="x", channels=("scan",), labels={"none": 0, "spleen": 1}, structures={"all": Structure(labels=(1,))})
OVERLAPPING = replace(
    SPLEEN, labels={"none": 0, "a": 7, "b": 9}, structures={"a": Structure(labels=(7, 9)), "b": Structure(labels=(9,))},
    regions=(Region(structure="a", label=7), Region(structure="b", label=9)),
)  # fmt: skip


def test_the_users_task_comes_first() -> None:
    named = described(outputs={"channel_def": {"0": "background", "1": "spleen"}})
    assert meaning_of(named, ("CT",), 2, ARGMAX, None, SPLEEN) == Meaning(SPLEEN, (0, 1))
    assert meaning_of(described(), ("CT",), 2, ARGMAX, None, SPLEEN) == Meaning(SPLEEN, (0, 1))
    painted = meaning_of(named, ("CT",), 2, SIGMOID, None, OVERLAPPING)
    assert painted == Meaning(OVERLAPPING, (7, 9), (0, 1)), "no Lambdad says so"
    swapped = described(outputs={"channel_def": {"0": "background", "1": "lesion", "2": "pancreas"}})
    assert meaning_of(swapped, ("CT",), 3, ARGMAX, None, PANCREAS).labels == (0, 2, 1)


def users(task: Task) -> Meaning:
    named = described(outputs={"channel_def": {"0": "background", "1": "spleen"}})
    return meaning_of(named, ("CT",), 2, ARGMAX, None, task)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            lambda: channels_of(described({"num_channels": 2}), 1),
            "its input has 2 channels, and the network of inference",
        ),
        (
            lambda: meaning(["background", "spleen"], 3),
            "has the channels background, spleen, and the network of inference",
        ),
        (lambda: meaning(["spleen", "background"], 2), "its background is channel 1; the first channel must be"),
        (
            lambda: users(replace(SPLEEN, labels={"none": 0, "spleen": 2}, structures={"s": Structure(labels=(2,))})),
            "spleen: its metadata.json and the task x say the labels 1 and 2 of output 1; correct the file of --task",
        ),
        (lambda: users(replace(SPLEEN, channels=("a", "b"))), "the task x say the channels CT and a, b"),
        (
            lambda: meaning_of(described(), ("CT",), 3, ARGMAX, None, SPLEEN),
            "takes 1 channel and puts out 3, and the task x has 1 channel and 2 outputs",
        ),
        (lambda: meaning(None, 1), "its network puts out 1 channel of which the likeliest is taken"),
        (lambda: meaning(None, 257), "its network puts out 257 channels"),
        (lambda: meaning(None, 3, SIGMOID), "its 3 channels overlap (sigmoid), and no Lambdad says as which label"),
        (
            lambda: meaning(None, 2, SIGMOID, BRATS),
            "paints the channels [1, 0, 2] as [2, 1, 4], and the network puts out 2",
        ),
        (lambda: meaning(None, 2, SIGMOID, ((0, 1), (1, 1))), "paints the channels [0, 1] as [1, 1]"),
        (lambda: meaning(None, 1, SIGMOID, ((0, 300),)), "paints the channels [0] as [300]"),
    ],
)
def test_contradictions_are_one_line(asked: Any, said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        asked()
    assert said in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
