"""How a MONAI bundle brings a volume to its network: tile, window, labels, and what of it is not done here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.errors import CheckpointError, refusal
from models.model import BACKGROUND, LABELS, LESION, PANCREAS
from models.monai.config import Component, Config
from models.options import ModelOptions

# Transforms by what they mean here, in array and dictionary form (a name that ends in d, D or Dict).
_HARMLESS = {
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "CastToType",
    "Identity", "ToDevice",
}  # fmt: skip
_GEOMETRY = {"Orientation", "Spacing", "CropForeground", "SpatialPad", "DivisiblePad"}
_SCALING = "ScaleIntensityRange"
_AFTERWARDS = {"Activations", "AsDiscrete", "Invert", "SaveImage", "EnsureType", "ToTensor"}
_PLACES = ("preprocessing", "dataset::transform", "validate::preprocessing", "train::preprocessing")
_LARGEST_TILE = 2**24  # voxels; more than 256 x 256 x 256 is a mistake or malice
_LESION_WORDS = ("lesion", "tumor", "tumour", "cancer", "mass", "cyst")
_BACKGROUND_WORDS = ("background", "everything else")


@dataclass(frozen=True)
class Tile:
    """Sides in voxels, and what is to be said of the inferer."""

    sides: tuple[int, int, int]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """HU that are mapped to 0 and 1, and what is to be said of the preprocessing."""

    hu: tuple[float, float]
    remarks: tuple[str, ...]


def tile_of(config: Config, options: ModelOptions) -> Tile:
    """The tile of the bundle's inferer, or the user's.

    Raises:
        CheckpointError: the inferer has none that can be used.
    """
    if options.tile is not None:
        return Tile(options.tile, ())
    key = next((key for key in ("inferer", "validate::inferer", "train::inferer") if config.has(key)), "inferer")
    inferer = config.component(key) if config.has(key) else None
    if inferer is None or "roi_size" not in inferer.arguments:
        problem = f"its {key} ({inferer.target if inferer else 'none'}) names no roi_size"
        raise refusal(config.file, problem, "choose the training patch with --tile=X,Y,Z")
    sides = config.resolved(f"{inferer.key}::roi_size", inferer.arguments["roi_size"])
    sides = [sides] * 3 if _is_side(sides) else sides
    if not (isinstance(sides, list) and len(sides) == 3 and all(map(_is_side, sides))):
        problem = f"its {inferer.key}::roi_size is {str(sides)[:80]}, not three sides in voxels"
        raise refusal(config.file, problem, "choose the training patch with --tile=X,Y,Z")
    x, y, z = sides
    if x * y * z > _LARGEST_TILE:
        problem = f"its {inferer.key}::roi_size is {x} x {y} x {z}, more than {_LARGEST_TILE} voxels"
        raise refusal(config.file, problem, "choose the training patch with --tile=X,Y,Z")
    settings = [
        f"{name} {_shorten(inferer.arguments[name])}" for name in ("overlap", "mode") if name in inferer.arguments
    ]
    of_run = f"its {inferer.name} has {', '.join(settings)}; overlap and tile weights are those of the run"
    return Tile((x, y, z), (of_run,) if settings else ())


def window_of(config: Config, options: ModelOptions) -> Window:
    """The intensities that the bundle's preprocessing maps to 0 and 1, or the user's.

    Raises:
        CheckpointError: it changes intensities in a way that is not done here.
    """
    if options.window is not None:
        return Window(options.window, ("--window takes the place of its own preprocessing of intensities",))
    geometry, window = [], None
    for step in _transforms(config, _PLACES):
        kind = _kind(step.name, _HARMLESS | _GEOMETRY | {_SCALING})
        if kind in _GEOMETRY:
            geometry.append(step.name)
        elif kind == _SCALING and window is None:
            window = _scaled_window(config, step)
        elif kind not in _HARMLESS:
            raise _other_intensities(config, f"its {step.key} is {step.target[:80]}")
    if window is None:
        raise _other_intensities(config, f"its preprocessing has no {_SCALING}d")
    said = f"its preprocessing has {', '.join(geometry)} too: not done here, volumes run as they are stored"
    return Window(window, (said,) if geometry else ())


def labels_of(config: Config, classes: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The label in masks of each of the network's channels, by their names in the metadata; and what is to be said.

    Raises:
        CheckpointError: the names are others than background, pancreas and lesion, or more or fewer than `classes`.
    """
    names = _channel_names(config)
    if names is None:
        return LABELS[:classes], ("its metadata names no channels: taken for background, pancreas, lesion",)
    labels = tuple(_label(name) for name in names)
    if sorted(-1 if label is None else label for label in labels) != list(LABELS[:classes]):
        problem = f"its channels are {', '.join(name[:40] for name in names[:8])}, and its network has {classes}"
        remedy = "only background, pancreas and lesion are scored, each in a channel of its own: give such a network"
        raise refusal(config.root / "configs" / "metadata.json", problem, remedy)
    return tuple(label for label in labels if label is not None), ()


def afterwards(config: Config) -> tuple[str, ...]:
    """What is to be said of its postprocessing.

    Raises:
        CheckpointError: it takes the channels for independent, where here the most likely one is taken.
    """
    try:
        steps = list(_transforms(config, ("postprocessing", "validate::postprocessing")))
    except CheckpointError:
        return ("its postprocessing is not plain values: none of it is done here",)
    for step in steps:
        if _kind(step.name, _AFTERWARDS) == "Activations" and step.arguments.get("sigmoid") is True:
            problem = f"its {step.key} is a sigmoid, so that its channels are no classes of which one is most likely"
            raise refusal(config.file, problem, "name code with --arch FILE.py:FACTORY that returns logits of classes")
    others = [step.name for step in steps if _kind(step.name, _AFTERWARDS) not in _AFTERWARDS]
    return (f"its postprocessing has {', '.join(others[:8])} too: not done here",) if others else ()


def _transforms(config: Config, places: tuple[str, ...]) -> Iterator[Component]:
    """The steps of the first of `places` that is there; those for labels alone and random ones left out."""
    place = next((place for place in places if config.has(place)), None)
    if place is None:
        return
    composed = config.component(place)
    if composed is None or composed.name != "Compose" or "transforms" not in composed.arguments:
        raise config.refused(f"its {place} is no Compose of transforms")
    key, steps = config.followed(f"{composed.key}::transforms", composed.arguments["transforms"])
    if not isinstance(steps, list) or len(steps) > 100:
        raise config.refused(f"its {key} is no list of transforms")
    for number, step in enumerate(steps):
        made = config.component(f"{key}::{number}", step)
        if made is None:
            raise config.refused(f"its {key}::{number} is no transform")
        disabled = config.resolved(f"{made.key}::_disabled_", step.get("_disabled_", False) if step else False)
        if str(disabled).lower().strip() != "true" and _of_image(config, made) and not made.name.startswith("Rand"):
            yield made


def _of_image(config: Config, step: Component) -> bool:
    keys = config.resolved(f"{step.key}::keys", step.arguments.get("keys", "image"))
    names = [str(name) for name in (keys if isinstance(keys, list) else [keys])]
    return not all("label" in name or "mask" in name for name in names)


def _scaled_window(config: Config, step: Component) -> tuple[float, float]:
    arguments = {name: config.resolved(f"{step.key}::{name}", value) for name, value in step.arguments.items()}
    low, high = arguments.get("a_min"), arguments.get("a_max")
    if not (isinstance(low, int | float) and isinstance(high, int | float) and -1e5 < low < high < 1e5):
        raise _other_intensities(config, f"its {step.key} maps from {str(low)[:20]} to {str(high)[:20]}")
    if arguments.get("b_min") != 0 or arguments.get("b_max") != 1:
        to = f"{str(arguments.get('b_min'))[:20]} to {str(arguments.get('b_max'))[:20]}"
        raise _other_intensities(config, f"its {step.key} maps to {to}, not to 0 to 1")
    if arguments.get("clip") is not True:
        raise _other_intensities(config, f"its {step.key} does not clip")
    return float(low), float(high)


def _other_intensities(config: Config, problem: str) -> CheckpointError:
    remedy = (
        "intensities are only clipped to a window and mapped to 0 to 1 here: name a network that does the rest in its "
        "forward with --arch FILE.py:FACTORY, or run it on another window with --window=LOW,HIGH"
    )
    return refusal(config.file, problem, remedy)


def _channel_names(config: Config) -> list[str] | None:
    outputs: Any = config.values["_meta_"]
    for name in ("network_data_format", "outputs"):
        outputs = outputs.get(name) if isinstance(outputs, dict) else None
    of_each = outputs.values() if isinstance(outputs, dict) else ()
    defined = [output["channel_def"] for output in of_each if isinstance(output, dict) and "channel_def" in output]
    if not defined or not isinstance(defined[0], dict) or not defined[0]:
        return None
    numbers = [number for number in defined[0] if str(number).isdecimal() and len(str(number)) < 4]
    numbered = {int(number): str(defined[0][number]) for number in numbers}
    return [name for _, name in sorted(numbered.items())]


def _label(name: str) -> int | None:
    low = name.lower()
    if any(word in low for word in _BACKGROUND_WORDS):
        return BACKGROUND
    if any(word in low for word in _LESION_WORDS):
        return LESION
    return PANCREAS if "pancrea" in low else None


def _kind(name: str, known: set[str]) -> str:
    """`name` without its ending, where that leads to something known."""
    shorter = (name.removesuffix(ending) for ending in ("", "Dict", "D", "d"))
    return next((candidate for candidate in shorter if candidate in known), name)


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 4096


def _shorten(value: object) -> str:
    return str(value)[:40]
