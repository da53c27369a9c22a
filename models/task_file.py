"""A task as the user writes it (``--task FILE.toml``), or as a checkpoint carries it: plain values, each checked."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.task import Region, Structure, Task, TaskError, structures_of

_KEYS = (
    "name", "channels", "labels", "structures", "regions", "painting", "ignore", "classes", "f1_target",
    "foreground_ml",
)  # fmt: skip
_OF_STRUCTURE = (
    "labels", "nsd_tolerance_mm", "max_dsc_drop", "max_nsd_drop", "dsc_target", "nsd_target", "critical",
)  # fmt: skip
_SHARES = ("max_dsc_drop", "max_nsd_drop", "dsc_target", "nsd_target", "f1_target")  # from 0 to 1


def read_task(path: Path) -> Task:
    """The task in a TOML file.

    Raises:
        TaskError: it cannot be read, holds a key that is not known, or contradicts itself; names the file.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); name a TOML file with a task") from None
    except ValueError as error:  # not UTF-8, or no TOML
        raise TaskError(f"{path}: is no TOML file ({error}); correct it") from None
    try:
        task = task_from_values(values, f"--task {path.name}")
    except TaskError as error:
        raise TaskError(f"{path}: {error}; correct it") from None
    return task if "name" in values else replace(task, name=path.stem)


def task_from_values(values: Mapping[str, Any], source: str) -> Task:
    """The task that plain values describe; every part of it comes from `source`, in words.

    Labels are ``{name: value}``. A structure names its labels, or gives their values; without any structure each label
    but the background is one. A region has a ``structure`` and the ``label`` that it is painted as; ``painting`` lists
    the regions' structures from the first to the last that is painted.

    Raises:
        TaskError: a key is not known, a value is of another kind, or they contradict each other.
    """
    _refuse_unknown(values, _KEYS, "")
    labels = _labels(values.get("labels"))
    held = _table(values, "structures")
    structures = {name: _structure(name, of, labels) for name, of in held.items()} or structures_of(labels)
    regions = tuple(_region(number, of, labels) for number, of in enumerate(_list(values, "regions"), 1))
    names = [region.structure for region in regions]
    order = [_known(name, names, "painting", "region") for name in _list(values, "painting")]
    return Task(
        name=_text(values.get("name", "task"), "name"),
        channels=tuple(_text(name, "channels") for name in _list(values, "channels")),
        labels=labels,
        structures=structures,
        regions=regions,
        painting=tuple(names.index(name) for name in order),
        ignore=_whole(values["ignore"], "ignore") if "ignore" in values else None,
        classes=tuple(_text(name, "classes") for name in _list(values, "classes")),
        f1_target=_number(values["f1_target"], "f1_target") if "f1_target" in values else None,
        foreground_ml=_volumes(values["foreground_ml"]) if "foreground_ml" in values else None,
        sources=dict.fromkeys(("channels", "labels", "structures", "classes"), source),
    )


def task_values(task: Task) -> dict[str, Any]:
    """The plain values of `task`, as `task_from_values` reads them."""
    names = {value: name for name, value in task.labels.items()}
    structures = {
        name: {"labels": [names[label] for label in structure.labels]}
        | {key: getattr(structure, key) for key in _OF_STRUCTURE[1:] if getattr(structure, key) is not None}
        for name, structure in task.structures.items()
    }
    regions = [{"structure": region.structure, "label": names[region.label]} for region in task.regions]
    values = {
        "name": task.name,
        "channels": list(task.channels),
        "labels": dict(task.labels),
        "structures": structures,
        "regions": regions,
        "painting": [task.regions[number].structure for number in task.painting],
        "ignore": task.ignore,
        "classes": list(task.classes),
        "f1_target": task.f1_target,
        "foreground_ml": None if task.foreground_ml is None else list(task.foreground_ml),
    }
    return {key: value for key, value in values.items() if value not in (None, [])}


def _labels(held: object) -> dict[str, int]:
    if not isinstance(held, Mapping) or len(held) < 2:
        raise TaskError("it has no table [labels] of names and values, as in background = 0")
    return {str(name): _whole(value, f"labels.{name}") for name, value in held.items()}


def _structure(name: str, held: object, labels: Mapping[str, int]) -> Structure:
    where = f"structures.{name}"
    if not isinstance(held, Mapping):
        raise TaskError(f"{where} is {_shown(held)}, not a table with labels")
    _refuse_unknown(held, _OF_STRUCTURE, f"{where}.")
    numbers = {key: _number(held[key], f"{where}.{key}") for key in _OF_STRUCTURE[1:-1] if key in held}
    critical = held.get("critical", True)
    if not isinstance(critical, bool):
        raise TaskError(f"{where}.critical is {_shown(critical)}, not true or false")
    of = tuple(_label(label, labels, f"{where}.labels") for label in _list(held, "labels", where))
    return Structure(labels=of, critical=critical, **numbers)


def _region(number: int, held: object, labels: Mapping[str, int]) -> Region:
    where = f"region {number}"
    if not isinstance(held, Mapping):
        raise TaskError(f"{where} is {_shown(held)}, not a table with structure and label")
    _refuse_unknown(held, ("structure", "label"), f"{where}: ")
    structure = _text(held.get("structure"), f"{where}: structure")
    return Region(structure=structure, label=_label(held.get("label"), labels, f"{where}: label"))


def _label(held: object, labels: Mapping[str, int], where: str) -> int:
    """A label by its name or its value."""
    if isinstance(held, int) and not isinstance(held, bool) and held in labels.values():
        return held
    return labels[_known(held, labels, where, "label")]


def _known(held: object, names: Collection[str], where: str, what: str) -> str:
    if not isinstance(held, str) or held not in names:
        raise TaskError(f"{where} names {_shown(held)}, which is no {what}; there are {', '.join(list(names)[:12])}")
    return held


def _refuse_unknown(held: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in held:
        if name not in known:
            raise TaskError(f"unknown key {where}{str(name)[:40]}; known are {', '.join(known)}")


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    held = values.get(key, {})
    if not isinstance(held, Mapping):
        raise TaskError(f"{key} is {_shown(held)}, not a table")
    return held


def _list(values: Mapping[str, Any], key: str, where: str = "") -> list[Any]:
    held = values.get(key, [])
    if not isinstance(held, list | tuple):
        raise TaskError(f"{where}{'.' * bool(where)}{key} is {_shown(held)}, not a list")
    return list(held)


def _text(held: object, where: str) -> str:
    if not isinstance(held, str) or not held.strip() or not held.isprintable():
        raise TaskError(f"{where} has {_shown(held)}, which is no name")
    return held


def _whole(held: object, where: str) -> int:
    if not isinstance(held, int) or isinstance(held, bool):
        raise TaskError(f"{where} is {_shown(held)}, not a whole number")
    return held


def _number(held: object, where: str) -> float:
    """At least 0; what is a share of 1 at most 1."""
    most = 1.0 if where.rpartition(".")[2] in _SHARES else float("inf")
    if not isinstance(held, int | float) or isinstance(held, bool) or not 0 <= held <= most or held == float("inf"):
        raise TaskError(f"{where} is {_shown(held)}, not a number from 0{' to 1' if most == 1 else ''}")
    return float(held)


def _volumes(held: object) -> tuple[float, float]:
    numbers = [_number(value, "foreground_ml") for value in held] if isinstance(held, list | tuple) else []
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise TaskError(f"foreground_ml is {_shown(held)}, not two rising volumes in ml")
    return numbers[0], numbers[1]


def _shown(value: object) -> str:
    return repr(value)[:60]
