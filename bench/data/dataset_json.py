"""What a data set's ``dataset.json`` says of channels and labels, against the task.

That of nnU-Net's first version and of the Medical Segmentation Decathlon names values (``"1": "tumour"``), today's
numbers names (``"tumour": 1``); a region-based one lists the values of each name (``"whole tumour": [1, 2]``).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.data.volume import MaskValues
from bench.errors import InputError
from models.errors import some
from models.task import MOST_LABEL, Task, TaskError, normal

_BACKGROUND, _IGNORE = "background", "ignore"
_MOST_BYTES = 64 * 2**20
_REMEDY = "correct it, since it says what the values in the masks mean"
_RENAME = "rename it there, or give a task file that has it (--task)"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: it is damaged, too large, or holds something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
        held = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path}: {error}; correct it") from None
    if not isinstance(held, dict):
        raise InputError(f"{path}: it holds a {type(held).__name__} where an object is expected; correct it")
    return held


def mask_values(held: Mapping[str, Any], task: Task) -> MaskValues:
    """What each value in the masks is by `task`, and how the data set calls it.

    Raises:
        TaskError: it does not say, or contradicts the task; one line, without the file.
    """
    labels = held.get("labels")
    if not isinstance(labels, dict) or len(labels) < 2:
        raise TaskError(f"it names no labels; {_REMEDY}")
    if all(isinstance(name, str) and not name.isdecimal() for name in labels.values()):
        labels = _by_name(labels)
    ignored = next((name for name in labels if normal(name) == _IGNORE), None)
    ignore = None if ignored is None else _whole(ignored, labels[ignored])
    values = {name: _values(name, value) for name, value in labels.items() if name != ignored}
    regions = any(isinstance(labels[name], list) for name in values)
    meant = _of_regions(values, task) if regions else _of_labels(values, task)
    names = _names_of(task, meant) if regions else {value: name for name, (value, *_) in values.items()}
    if ignore is not None and task.ignore is not None:
        if ignore in meant:
            raise TaskError(f"its labels {names[ignore]!r} and {ignored!r} have the same value {ignore}; {_REMEDY}")
        meant[ignore], names[ignore] = task.ignore, _IGNORE
    if 0 not in meant:
        meant[0], names[0] = 0, _BACKGROUND
    return MaskValues(meant, names)


def refuse_channels(held: Mapping[str, Any], task: Task) -> None:
    """Refuse channels that are not those of `task` in its order, as far as their names tell.

    Raises:
        TaskError: so they are; one line, without the file.
    """
    channels = _channels(held)
    if not channels:
        return
    if len(channels) != len(task.channels):
        raise TaskError(
            f"its images have {_counted(channels)}, and the network takes {_counted(task.channels)}; "
            "give data of these channels"
        )
    ours, theirs = [normal(name) for name in task.channels], [normal(name) for name in channels]
    once = [name for name in ours if ours.count(name) == theirs.count(name) == 1]
    if any(ours.index(name) != theirs.index(name) for name in once):
        raise TaskError(
            f"its channels are {', '.join(channels)}, and the network takes {', '.join(task.channels)}; "
            "put the images into the network's order"
        )


def _by_name(labels: Mapping[str, str]) -> dict[str, Any]:
    """From names by value; values of one name are refused, since nothing says which is meant."""
    named = {name: value for value, name in labels.items()}
    for value, name in labels.items():
        if named[name] != value:
            raise TaskError(f"its values {value} and {named[name]} are both {name!r}; {_REMEDY}")
    return named


def _of_labels(values: Mapping[str, tuple[int, ...]], task: Task) -> dict[int, int]:
    known = _known_labels(task)
    meant, names = dict[int, int](), dict[int, str]()
    for name, (value,) in values.items():
        if value in names:
            raise TaskError(f"its labels {names[value]!r} and {name!r} have the same value {value}; {_REMEDY}")
        if normal(name) not in known:
            raise TaskError(f"its label {name[:40]!r} ({value}) is none of the task's: {_listed(task)}; {_RENAME}")
        meant[value], names[value] = known[normal(name)], name
    return meant


def _known_labels(task: Task) -> dict[str, int]:
    """The task's label of each name, in its own words first."""
    known = {_BACKGROUND: 0}
    for name, label in task.labels.items():
        for synonym in task.synonyms.get(name, ()):
            known[normal(synonym)] = label
    return known | {normal(name): label for name, label in task.labels.items()}


def _of_regions(values: Mapping[str, tuple[int, ...]], task: Task) -> dict[int, int]:
    """Values stand for themselves, since a region does not say what each of its values is."""
    known: dict[str, tuple[int, ...]] = {normal(name): (label,) for name, label in task.labels.items()}
    known |= {normal(name): structure.labels for name, structure in task.structures.items()} | {_BACKGROUND: (0,)}
    for name, region in values.items():
        labels = known.get(normal(name))
        if labels is None:
            listed = ", ".join(task.structures)
            raise TaskError(f"its region {name[:40]!r} is none of the task's structures: {listed}; {_RENAME}")
        if set(labels) != set(region):
            raise TaskError(
                f"its region {name[:40]!r} has the values {_written(region)}, and in the task {_written(labels)}; "
                "correct the one that is wrong"
            )
    return {value: value for region in values.values() for value in region}


def _names_of(task: Task, values: Mapping[int, int]) -> dict[int, str]:
    names = {label: name for name, label in task.labels.items()}
    return {value: names.get(value, f"label {value}") for value in values}


def _values(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and value:
        return tuple(_whole(name, each) for each in value)
    return (_whole(name, value),)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, int | str) and str(value).isdecimal() and len(str(value)) < 4 and int(value) <= MOST_LABEL:
        return int(value)
    raise TaskError(f"its label {name[:40]!r} is {str(value)[:40]}, no whole number from 0 to {MOST_LABEL}; {_REMEDY}")


def _channels(held: Mapping[str, Any]) -> list[str]:
    """Names in order; empty where none are there."""
    channels = held.get("channel_names", held.get("modality"))
    if isinstance(channels, list):
        return [str(name) for name in channels]
    if not isinstance(channels, dict) or not all(str(number).isdecimal() for number in channels):
        return []
    return [str(channels[number]) for number in sorted(channels, key=int)]


def _counted(channels: Sequence[str]) -> str:
    return f"{len(channels)} channel{'s' if len(channels) > 1 else ''} ({', '.join(channels)})"


def _listed(task: Task) -> str:
    return some([f"{name} {value}" for name, value in task.labels.items()], 12)


def _written(values: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(values)))
