"""nnU-Net's ``dataset.json``: what goes into a network, what its outputs are in masks, and the task that it is for."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.model import Plans
from models.task import BACKGROUND, MOST_LABEL, PANCREAS, Region, Structure, Task

_MOST_CHANNELS = 64
_SAID = "come with a dataset.json"


def task_of(plans: Plans, subtypes: int = 0) -> Task:
    """The task of a network that also tells `subtypes` classes of a case apart."""
    dataset = plans.dataset
    labels, regions, order = _labels(dataset["labels"]), _foreground(dataset["labels"]), dataset["regions_class_order"]
    task = Task(
        name=str(plans.plans["dataset_name"]).removeprefix("Dataset").lstrip("0123456789").lstrip("_") or "nnU-Net",
        channels=tuple(dataset["channel_names"].values()),
        labels=labels,
        structures={name: Structure(labels=values) for name, values in regions.items()},
        regions=tuple(Region(structure=name, label=label) for name, label in zip(regions, order, strict=False)),
        ignore=dataset["labels"].get("ignore"),
        classes=tuple(map(str, range(subtypes))),
        sources=dict.fromkeys(("channels", "labels", "structures"), "nnU-Net's dataset.json")
        | ({"classes": "outputs of the classification head"} if subtypes else {}),
    )
    return task if order else _of_pancreas(task) or task


def _of_pancreas(task: Task) -> Task | None:
    """The task with what is known of the pancreas and its lesions, where its labels are these; None for another's.

    A label that only names a lesion, such as the lung's cancer, is no lesion of the pancreas.
    """
    kinds = {name: _kind(name) for name, label in task.labels.items() if label != BACKGROUND}
    named = any("panc" in name.casefold() for name in (task.name, *kinds))
    if not named or set(kinds.values()) != set(PANCREAS.synonyms):
        return None
    lesions = tuple(task.labels[name] for name, kind in kinds.items() if kind == "lesion")
    whole = tuple(task.labels[name] for name in kinds)
    # With several lesions nothing says which of them another data set's lesion is.
    synonyms = {name: (kind, *PANCREAS.synonyms[kind]) for name, kind in kinds.items() if kind is not None}
    return replace(
        task,
        name=PANCREAS.name,
        foreground_ml=PANCREAS.foreground_ml,
        structures={
            "whole pancreas": replace(PANCREAS.structures["whole pancreas"], labels=whole),
            "lesion": replace(PANCREAS.structures["lesion"], labels=lesions),
        },
        f1_target=PANCREAS.f1_target if task.classes else None,
        sources={**task.sources, "structures": "built in, for the pancreas and its lesions"},
        synonyms=synonyms if len(kinds) == len(PANCREAS.synonyms) else {},
    )


def _kind(name: str) -> str | None:
    """``pancreas`` or ``lesion``, whichever a label is called by; None for another's."""
    return next((kind for kind, names in PANCREAS.synonyms.items() if _plain(name) in (kind, *names)), None)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _labels(held: Mapping[str, int | list[int]]) -> dict[str, int]:
    """Every value in masks, background first, and its name; a region's part that no name is of is ``label N``."""
    names = {value: name for name, value in reversed([*held.items()]) if isinstance(value, int)}
    return {names.get(value, f"label {value}"): value for value in _values(held)}


def _foreground(held: Mapping[str, int | list[int]]) -> dict[str, tuple[int, ...]]:
    """The labels of each class or region but the background, in nnU-Net's order of regions."""
    values = {name: (value,) if isinstance(value, int) else tuple(value) for name, value in held.items()}
    return {name: value for name, value in values.items() if name != "ignore" and set(value) != {BACKGROUND}}


def _values(held: Mapping[str, int | list[int]]) -> list[int]:
    return sorted({BACKGROUND, *itertools.chain(*_foreground(held).values())})


def kept_dataset(held: Mapping[str, Any]) -> dict[str, Any]:
    """What of it inference needs; its labels stay in their order, which is that of the regions.

    Raises:
        ValueError: nnU-Net would not train by it, or its labels do not fit into 8 bits.
    """
    labels = _kept_labels(held.get("labels"))
    values, channels = _values(labels), _kept_channels(held)
    kept = {"channel_names": channels, "labels": labels, "regions_class_order": [], "file_ending": ".nii.gz"}
    if "ignore" in labels and labels["ignore"] != values[-1] + 1:
        raise ValueError(f"{_SAID} whose label 'ignore' is not the one after its highest, {values[-1]}")
    if any(isinstance(value, list) for value in labels.values()):
        return kept | {"regions_class_order": _kept_order(held, labels)}
    if values != list(range(len(labels.keys() - {"ignore"}))):
        raise ValueError(f"{_SAID} whose labels are not 0, 1, 2, ... with background 0")
    return kept


def _kept_channels(held: Mapping[str, Any]) -> dict[str, str]:
    channels = held.get("channel_names", held.get("modality"))
    if not isinstance(channels, dict) or not 0 < len(channels) <= _MOST_CHANNELS:
        raise ValueError(f"{_SAID} that names no channels")
    numbered = {str(number): name for number, name in channels.items()}
    if set(numbered) != set(map(str, range(len(numbered)))):
        raise ValueError(f"{_SAID} whose channels are not 0, 1, 2, ... ({', '.join(numbered)[:80]})")
    return {str(number): str(numbered[str(number)]) for number in range(len(numbered))}


def _kept_labels(held: object) -> dict[str, int | list[int]]:
    if not isinstance(held, dict) or not 1 < len(held) <= MOST_LABEL + 1:
        raise ValueError(f"{_SAID} that names no labels")
    labels: dict[str, int | list[int]] = {}
    for name, value in held.items():
        values = [_whole(part) for part in (value if isinstance(value, list) else [value])]
        if not values or len(values) > MOST_LABEL:
            raise ValueError(f"{_SAID} whose label {str(name)[:40]!r} has no value")
        labels[str(name)] = values[0] if len(values) == 1 else values  # to nnU-Net a list of one is no region
    if labels.get("background") != BACKGROUND or any(BACKGROUND in of for of in _foreground(labels).values()):
        raise ValueError(f"{_SAID} whose labels are not 0, 1, 2, ... with background 0")
    if not _foreground(labels):
        raise ValueError(f"{_SAID} that names no labels")
    if isinstance(labels.get("ignore"), list):
        raise ValueError(f"{_SAID} whose label 'ignore' has several values")
    return labels


def _kept_order(held: Mapping[str, Any], labels: Mapping[str, int | list[int]]) -> list[int]:
    order, regions = held.get("regions_class_order"), _foreground(labels)
    if not isinstance(order, list) or len(order) != len(regions):
        raise ValueError(f"{_SAID} whose regions_class_order does not give each of its {len(regions)} regions a label")
    painted = [_whole(value) for value in order]
    unknown = set(painted) - {*_values(labels)[1:]}
    if unknown:
        raise ValueError(f"{_SAID} whose regions_class_order holds {min(unknown)}, which is no label of its foreground")
    return painted


def _whole(value: object) -> int:
    if isinstance(value, int | str) and str(value).isdecimal() and len(str(value)) < 4 and int(value) <= MOST_LABEL:
        return int(value)
    raise ValueError(f"{_SAID} whose label {str(value)[:40]!r} is no number from 0 to {MOST_LABEL}")
