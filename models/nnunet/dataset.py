"""nnU-Net's ``dataset.json``: what goes into a network, and which of our labels its classes are."""

from collections.abc import Mapping
from typing import Any

from models.model import BACKGROUND, LESION, PANCREAS, Plans

_CT_NAMES = ("ct", "nonorm", "zscore", "rescale_to_0_1")  # the last three are nnU-Net's names for a normalisation
_PANCREAS_NAMES = ("pancreas", "panc", "normal pancreas", "healthy pancreas", "pancreas parenchyma", "parenchyma")
_LESION_NAMES = (
    "lesion", "lesions", "pancreatic lesion", "pancreas lesion", "tumor", "tumour", "pancreatic tumor", "cancer",
    "mass", "cyst", "pdac",
)  # fmt: skip
_MOST_LABELS = 64


def labels_of(plans: Plans) -> tuple[int, ...]:
    """The label in our masks of each of the network's classes, in their order."""
    return tuple(map(_label, classes_of(plans)))


def classes_of(plans: Plans) -> list[str]:
    """The names of the network's classes, in their order."""
    labels: Mapping[str, int] = plans.dataset["labels"]
    return sorted(labels, key=lambda name: labels[name])


def label_values(held: Any) -> tuple[int, ...]:
    """The label in our masks of each value in the masks of a data set, by its ``dataset.json``.

    That of nnU-Net's first version and of the Medical Segmentation Decathlon names values, today's numbers names.

    Raises:
        ValueError: it does not say, or names others than pancreas and lesion; one line.
    """
    labels = held.get("labels") if isinstance(held, dict) else None
    if not isinstance(labels, dict) or not 1 < len(labels) <= _MOST_LABELS:
        raise ValueError("it names no labels")
    if all(isinstance(name, str) for name in labels.values()):
        labels = {name: value for value, name in labels.items()}
    try:
        numbers = {str(name): _whole(value) for name, value in labels.items() if name != "ignore"}
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise ValueError("its labels are not 0, 1, 2, ...")
        return tuple(_label(name) for name in sorted(numbers, key=lambda name: numbers[name]))
    except ValueError as error:
        raise ValueError(str(error).removeprefix("come with a dataset.json whose ").partition("; ")[0]) from None


def kept_dataset(held: Mapping[str, Any]) -> dict[str, Any]:
    """What of it inference needs.

    Raises:
        ValueError: its network takes other images, has overlapping classes, or others than pancreas and lesion.
    """
    channels = held.get("channel_names", held.get("modality"))
    if not isinstance(channels, dict) or len(channels) != 1:
        count = len(channels) if isinstance(channels, dict) else "unknown"
        raise ValueError(f"are of a network of {count} channels; give a network of one CT channel")
    channel = str(next(iter(channels.values())))
    if channel.casefold() not in _CT_NAMES and not channel.casefold().startswith("ct"):
        raise ValueError(f"are of a network for {channel[:40]!r} images; give a network of one CT channel")
    labels = held.get("labels")
    if not isinstance(labels, dict) or not 1 < len(labels) <= _MOST_LABELS:
        raise ValueError("come with a dataset.json that names no labels")
    classes = {str(name): value for name, value in labels.items() if name != "ignore"}
    if any(isinstance(value, list) for value in classes.values()):
        raise ValueError("are of region-based training (dataset.json), whose classes overlap; train with normal labels")
    if sorted(map(_whole, classes.values())) != list(range(len(classes))) or _whole(classes.get("background")) != 0:
        raise ValueError("come with a dataset.json whose labels are not 0, 1, 2, ... with background 0")
    for name in classes:
        _label(name)
    numbers = {name: _whole(value) for name, value in classes.items()}
    return {"channel_names": {"0": channel}, "labels": numbers, "file_ending": ".nii.gz"}


def _label(name: str) -> int:
    normal = " ".join(name.replace("_", " ").casefold().split())
    for label, names in ((BACKGROUND, ("background",)), (PANCREAS, _PANCREAS_NAMES), (LESION, _LESION_NAMES)):
        if normal in names:
            return label
    known = f"{', '.join(_PANCREAS_NAMES)} and {', '.join(_LESION_NAMES)}"
    raise ValueError(
        f"come with a dataset.json whose label {name[:40]!r} is neither pancreas nor lesion (known are {known}); "
        "rename it there"
    )


def _whole(value: object) -> int:
    if isinstance(value, int | str) and str(value).isdecimal() and len(str(value)) < 4:
        return int(value)
    raise ValueError(f"come with a dataset.json whose label {str(value)[:40]!r} is no number")
