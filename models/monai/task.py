"""What a MONAI bundle's network is for: its channels, labels and structures, by the names in its metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.errors import refusal
from models.model import Transforms
from models.monai.config import Config
from models.networks.channels import counted
from models.task import BACKGROUND, MOST_LABEL, PANCREAS, Region, Structure, Task, difference, structures_of

_LESION_WORDS = ("lesion", "tumor", "tumour", "cancer", "mass", "cyst")
_BACKGROUND_WORDS = ("background", "everything else")
_SAYS_NOTHING = ("image", "none", "")  # names of the only channel
_METADATA = "the bundle's metadata.json"


@dataclass(frozen=True)
class Meaning:
    """What a network's outputs stand for: as of `models.model.Model`, and what is to be said of it."""

    task: Task
    labels: tuple[int, ...]
    painting: tuple[int, ...] | None = None
    remarks: tuple[str, ...] = ()


def channels_of(config: Config, wanted: object) -> tuple[str, ...]:
    """Names of the images that go in, in the network's order.

    Args:
        wanted: the number of channels that the network's arguments ask for; anything but an int where they do not say.

    Raises:
        CheckpointError: the metadata has another number.
    """
    described = _first(config, "inputs", "num_channels", "channel_def")
    number, names = described.get("num_channels"), _numbered(described.get("channel_def"))
    number = number if isinstance(number, int) and 0 < number < 1000 else len(names) or None
    asked = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else number or 1
    if number not in (None, asked):
        problem = f"its input has {counted(number, 'channel')}, and the network of {config.file.name} takes {asked}"
        raise refusal(config.root / "configs" / "metadata.json", problem, "mend the one that is wrong")
    if len(names) != asked:
        names = [f"image {at}" for at in range(asked)] if asked > 1 else ["image"]
    if asked == 1 and names[0].lower() in _SAYS_NOTHING:
        modality = str(described.get("modality") or "")[:20]
        names = ["image" if modality.lower() in _SAYS_NOTHING else modality]
    return tuple(_unique(names))


def meaning_of(
    config: Config,
    channels: tuple[str, ...],
    classes: int,
    steps: Transforms,
    painting: tuple[tuple[int, int], ...] | None,
    wanted: Task | None = None,
) -> Meaning:
    """What the network's channels stand for.

    Args:
        channels: as `channels_of`.
        classes: that the network puts out.
        painting: what the bundle's Lambdad paints: channels and labels, first to last.
        wanted: the user's own task.

    Raises:
        CheckpointError: the metadata has other channels, or nothing says how overlapping regions become a mask.
    """
    names, overlapping = _output_names(config), painting is not None or _overlaps(steps)
    if painting is None and overlapping and classes == 1:
        painting = ((0, 1),)
    if wanted is not None and (not names or (overlapping and painting is None)):
        return _wanted(config, wanted, len(channels), classes)
    if names and len(names) != classes:
        listed = ", ".join(name[:40] for name in names[:8])
        problem = f"its output has the channels {listed}, and the network of {config.file.name} puts out {classes}"
        raise refusal(config.root / "configs" / "metadata.json", problem, "mend the one that is wrong")
    if overlapping:
        meaning = _regions(config, channels, names, classes, painting)
    else:
        meaning = _classes(config, channels, names, classes)
    if wanted is None:
        return replace(meaning, remarks=() if names else ("its metadata names no output channels: they are numbered",))
    otherwise = difference(meaning.task, wanted)
    if otherwise is not None:
        problem = f"its metadata.json and the task {wanted.name} say {otherwise}"
        raise refusal(config.root, problem, "correct the file of --task, or leave it out")
    return replace(meaning, task=wanted)


def _wanted(config: Config, task: Task, channels: int, classes: int) -> Meaning:
    """The user's own where the bundle does not say what its outputs are."""
    if (len(task.channels), len(task.output_labels)) != (channels, classes):
        sides = f"{counted(len(task.channels), 'channel')} and {counted(len(task.output_labels), 'output')}"
        takes = f"its network takes {counted(channels, 'channel')} and puts out {classes}"
        problem = f"{takes}, and the task {task.name} has {sides}"
        raise refusal(config.file, problem, "correct the file of --task")
    return Meaning(task, task.output_labels, task.output_painting)


def _overlaps(steps: Transforms) -> bool:
    """Whether each channel is thresholded by itself."""
    after = steps.postprocessing
    argmax = any(name == "AsDiscreted" and arguments.get("argmax") for name, arguments in after)
    sigmoid = any(name == "Activationsd" and arguments.get("sigmoid") for name, arguments in after)
    return sigmoid and not argmax


def _classes(config: Config, channels: tuple[str, ...], names: list[str], classes: int) -> Meaning:
    if not 2 <= classes <= MOST_LABEL + 1:
        problem = f"its network puts out {counted(classes, 'channel')} of which the likeliest is taken"
        raise refusal(config.file, problem, f"2 to {MOST_LABEL + 1} classes are done here, or a sigmoid")
    labels = [_pancreas_label(name) for name in names]
    at = next((at for at, name in enumerate(names) if _is_background(name)), 0)
    if at != 0:
        problem = f"its background is channel {at}"
        raise refusal(config.root / "configs" / "metadata.json", problem, "the first channel must be the background")
    if names and sorted(-1 if label is None else label for label in labels) == list(PANCREAS.output_labels[:classes]):
        sources = dict(PANCREAS.sources) | {"channels": _METADATA, "labels": _METADATA}
        known = tuple(label for label in labels if label is not None)
        return Meaning(replace(PANCREAS, channels=channels, sources=sources), known)
    named = _unique(["background", *(names[1:] or (f"class {label}" for label in range(1, classes)))])
    values = {name: label for label, name in enumerate(named)}
    return Meaning(_task(config, channels, values, structures_of(values)), tuple(values.values()))


def _regions(
    config: Config,
    channels: tuple[str, ...],
    names: list[str],
    classes: int,
    painting: tuple[tuple[int, int], ...] | None,
) -> Meaning:
    """Regions that lie in each other by the order in which they are painted: each holds those painted after it."""
    if painting is None:
        problem = f"its {classes} channels overlap (sigmoid), and no Lambdad says as which label each is painted"
        remedy = "give its postprocessing one as MONAI's BraTS bundle has, torch.where(x[[2]] > 0, 4, torch.where(...))"
        raise refusal(config.file, problem, remedy)
    order, values = tuple(channel for channel, _ in painting), [label for _, label in painting]
    if sorted(order) != list(range(classes)) or len({*values, 0}) <= classes or max(values) > MOST_LABEL:
        problem = f"its Lambdad paints the channels {list(order)} as {values}, and the network puts out {classes}"
        raise refusal(config.file, problem, f"each must be painted once, as a label of its own up to {MOST_LABEL}")
    _, *named = _unique(["background", *(names or (f"region {channel}" for channel in range(classes)))])
    labels = {named[channel]: label for channel, label in sorted(painting)}
    structures = {name: Structure(labels=tuple(values[values.index(label) :])) for name, label in labels.items()}
    task = _task(config, channels, {"background": BACKGROUND} | labels, structures)
    regions = tuple(Region(structure=name, label=label) for name, label in labels.items())
    return Meaning(replace(task, regions=regions, painting=order), tuple(labels.values()), order)


def _task(
    config: Config, channels: tuple[str, ...], labels: Mapping[str, int], structures: Mapping[str, Structure]
) -> Task:
    name = config.values["_meta_"].get("name")
    return Task(
        name=_printable(name) if isinstance(name, str) and name.strip() else config.root.name,
        channels=channels,
        labels=labels,
        structures=structures,
        sources=dict.fromkeys(("channels", "labels", "structures"), _METADATA),
    )


def _output_names(config: Config) -> list[str]:
    names = _numbered(_first(config, "outputs", "channel_def").get("channel_def"))
    labels = config.values.get("labels")  # of bundles whose metadata does not say
    if names or not isinstance(labels, dict):
        return names
    return _numbered({str(label): name for name, label in labels.items()})


def _first(config: Config, side: str, *names: str) -> Mapping[str, Any]:
    """The first input or output that the metadata describes by any of `names`."""
    described: Any = config.values["_meta_"]
    for key in ("network_data_format", side):
        described = described.get(key) if isinstance(described, dict) else None
    members = described.values() if isinstance(described, dict) else ()
    return next((each for each in members if isinstance(each, dict) and any(name in each for name in names)), {})


def _numbered(defined: object) -> list[str]:
    """Names in the order of their numbers, which run from 0; none where they do not."""
    if not isinstance(defined, dict):
        return []
    numbers = [number for number in defined if str(number).isdecimal() and len(str(number)) < 4]
    named = {int(number): _printable(str(defined[number])) for number in numbers}
    return [named[at] for at in range(len(named))] if sorted(named) == list(range(len(named))) else []


def _unique(names: list[str]) -> list[str]:
    """`names`, with a number behind each that was there before."""
    unique: list[str] = []
    for at, name in enumerate(names):
        unique.append(f"{name} ({at})" if not name or name in unique else name)
    return unique


def _printable(name: str) -> str:
    return "".join(character for character in name.strip() if character.isprintable())[:80]


def _is_background(name: str) -> bool:
    return any(word in name.lower() for word in _BACKGROUND_WORDS)


def _pancreas_label(name: str) -> int | None:
    low = name.lower()
    if _is_background(name):
        return BACKGROUND
    if any(word in low for word in _LESION_WORDS):
        return PANCREAS.labels["lesion"]
    return PANCREAS.labels["pancreas"] if "pancrea" in low else None
