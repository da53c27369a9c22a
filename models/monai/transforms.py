"""The transforms of a MONAI bundle that make a volume the network's input and its logits a mask, as plain values.

Which of MONAI's own transforms may be built from a file, and with which arguments, stands here alone. Reading, writing,
types and devices are this project's own affair, and steps of labels alone and random ones have no part in a prediction:
they are left out. Anything else is refused by its name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.errors import CheckpointError, refusal
from models.model import Step
from models.monai.config import Component, Config
from models.monai.expressions import painted

PLACES = ("preprocessing", "dataset::transform", "validate::preprocessing", "train::preprocessing")
PLACES_AFTER = ("postprocessing", "validate::postprocessing")
GEOMETRY = {"Orientationd", "Spacingd", "CropForegroundd", "SpatialPadd", "DivisiblePadd"}
_MOST_STEPS = 100
_LARGEST = 1e6
# Names without their ending; what is left out has no arguments that count, but for the type of what it gives.
_LEFT_OUT = {
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "CastToType",
    "Identity", "ToDevice", "SaveImage", "DeleteItems", "SelectItems",
}  # fmt: skip
# Where a step may have a list of these, it has one for each of its keys.
_FOR_EACH_KEY = {
    "mode", "padding_mode", "align_corners", "dtype", "scale_extent", "sigmoid", "softmax", "argmax", "threshold",
    "to_onehot", "rounding", "nearest_interp", "to_tensor",
}  # fmt: skip
# Where, how and under which name a step finds and leaves things.
_IGNORED = {
    "keys", "allow_missing_keys", "lazy", "transform", "orig_keys", "meta_keys", "orig_meta_keys", "meta_key_postfix",
    "device", "start_coord_key", "end_coord_key", "source_key",
}  # fmt: skip

Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= 1024


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*words: Any) -> Check:
    return lambda value: any(value is word or value == word for word in words) and not isinstance(value, list | dict)


def _some(check: Check) -> Check:
    """One that passes `check`, or a short list of such."""
    return lambda value: check(value) or (isinstance(value, list) and 0 < len(value) <= 256 and all(map(check, value)))


def _each_axis(check: Check) -> Check:
    """One for all axes that passes `check`, or one for each of three."""
    return lambda value: check(value) or (isinstance(value, list) and len(value) == 3 and all(map(check, value)))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_PAD = _one_of(
    "constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect", "symmetric", "wrap",
    "replicate", "circular",
)  # fmt: skip
_FLOAT32 = _one_of(None, "float32", "float")
_CLIPPED: Mapping[str, Check] = {"b_min": _or_none(_is_number), "b_max": _or_none(_is_number), "clip": _is_flag,
                                 "dtype": _FLOAT32}  # fmt: skip
_BEFORE: Mapping[str, Mapping[str, Check]] = {
    "Orientation": {
        "axcodes": lambda value: isinstance(value, str) and len(value) == 3 and set(value) <= set("LRAPIS"),
        "as_closest_canonical": _is_flag,
        "labels": _one_of(None),
    },
    "Spacing": {
        "pixdim": _each_axis(_is_number), "diagonal": _is_flag, "mode": _one_of("bilinear", "nearest"),
        "padding_mode": _one_of("border", "zeros", "reflection"), "align_corners": _or_none(_is_flag),
        "dtype": _one_of(None, "float32", "float64", "float"), "scale_extent": _is_flag, "recompute_affine": _is_flag,
        "min_pixdim": _or_none(_each_axis(_or_none(_is_number))),
        "max_pixdim": _or_none(_each_axis(_or_none(_is_number))),
        "ensure_same_shape": _is_flag,
    },
    "CropForeground": {
        "channel_indices": _or_none(_some(_is_count)), "margin": _each_axis(_is_count), "allow_smaller": _is_flag,
        "k_divisible": _each_axis(_is_count), "mode": _PAD,
    },
    "NormalizeIntensity": {
        "subtrahend": _or_none(_some(_is_number)), "divisor": _or_none(_some(_is_number)), "nonzero": _is_flag,
        "channel_wise": _is_flag, "dtype": _FLOAT32,
    },
    "ScaleIntensity": {
        "minv": _or_none(_is_number), "maxv": _or_none(_is_number), "factor": _or_none(_is_number),
        "channel_wise": _is_flag, "dtype": _FLOAT32,
    },
    "ScaleIntensityRange": {"a_min": _is_number, "a_max": _is_number, **_CLIPPED},
    "ScaleIntensityRangePercentiles": {
        "lower": _is_number, "upper": _is_number, "relative": _is_flag, "channel_wise": _is_flag, **_CLIPPED,
    },
    "SpatialPad": {"spatial_size": _each_axis(_is_count), "method": _one_of("symmetric", "end"), "mode": _PAD},
    "DivisiblePad": {"k": _each_axis(_is_count), "method": _one_of("symmetric", "end"), "mode": _PAD},
}  # fmt: skip
_AFTER: Mapping[str, Mapping[str, Check]] = {
    "Activations": {"sigmoid": _is_flag, "softmax": _is_flag, "other": _one_of(None)},
    "AsDiscrete": {
        "argmax": _is_flag, "threshold": _or_none(_is_number), "to_onehot": _or_none(_is_count),
        "rounding": _one_of(None, "torchrounding"),
    },
    "Invert": {"nearest_interp": _is_flag, "to_tensor": _is_flag, "post_func": _one_of(None)},
    "KeepLargestConnectedComponent": {
        "applied_labels": _or_none(_some(_is_count)), "is_onehot": _or_none(_is_flag), "independent": _is_flag,
        "connectivity": _or_none(_is_count), "num_components": _is_count,
    },
}  # fmt: skip
_PAINTS = "Lambda"
_KINDS = (*_LEFT_OUT, *_BEFORE, *_AFTER, _PAINTS)


@dataclass(frozen=True)
class Steps:
    """What a bundle does to a volume, or to logits.

    Attributes:
        steps: as `models.model.Transforms` holds them.
        painting: channels of overlapping regions and the labels they are painted as, first to last; None without.
    """

    steps: tuple[Step, ...]
    painting: tuple[tuple[int, int], ...] | None = None

    @property
    def names(self) -> list[str]:
        """Of the transforms."""
        return [name for name, _ in self.steps]


def before(config: Config) -> Steps:
    """What is done to a volume that is read already, channels first.

    Raises:
        CheckpointError: there is none, or something in it is not done here.
    """
    place = _place(config, PLACES)
    if place is None:
        raise _refused(config, "it has no preprocessing", _BEFORE)
    steps = _transforms(config, place, lambda name: not ("label" in name or "mask" in name), _BEFORE)
    return Steps(tuple(_checked(config, step, at, _BEFORE) for step, at in steps))


def after(config: Config) -> Steps:
    """What is done to the merged logits.

    Raises:
        CheckpointError: something in it is not done here.
    """
    place, steps, painting = _place(config, PLACES_AFTER), [], None
    for step, at in () if place is None else _transforms(config, place, lambda name: "pred" in name, _AFTER):
        if painting is not None:
            raise _refused(config, f"its {step.key} comes after the Lambdad that paints the mask", _AFTER)
        if _kind(step.name) == _PAINTS:
            painting = _painting(config, step)
        else:
            steps.append(_checked(config, step, at, _AFTER))
    return Steps(tuple(steps), painting)


def with_inverse(preprocessing: Steps, postprocessing: Steps) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The steps after the network, with one that brings the mask onto its image's grid where it has left that.

    Returns:
        They, and what is to be said of them.
    """
    names, moved = postprocessing.names, [name for name in preprocessing.names if name in GEOMETRY]
    if not moved:
        return tuple(step for step in postprocessing.steps if step[0] != "Invertd"), ()
    if "Invertd" not in names:
        added = ("Invertd", {"nearest_interp": True, "to_tensor": True})
        said = f"its postprocessing does not undo {', '.join(moved)}: masks are brought back by nearest neighbours"
        return (*postprocessing.steps, added), (said,)
    arguments = dict(postprocessing.steps[names.index("Invertd")][1])
    if (
        "Spacingd" in moved
        and "AsDiscreted" in names[: names.index("Invertd")]
        and arguments.get("nearest_interp") is False
    ):
        return postprocessing.steps, ("its Invertd interpolates between labels: the values it gives are rounded",)
    return postprocessing.steps, ()


def _place(config: Config, places: tuple[str, ...]) -> str | None:
    return next((place for place in places if config.has(place)), None)


def _transforms(
    config: Config, place: str, counts: Callable[[str], bool], allowed: Mapping[str, Mapping[str, Check]]
) -> Iterator[tuple[Component, int]]:
    """The steps under `place` that do something here, and which of their keys is the one that `counts`."""
    composed = config.component(place)
    if composed is None or composed.name != "Compose" or "transforms" not in composed.arguments:
        raise config.refused(f"its {place} is no Compose of transforms")
    key, steps = config.followed(f"{composed.key}::transforms", composed.arguments["transforms"])
    if not isinstance(steps, list) or len(steps) > _MOST_STEPS:
        raise config.refused(f"its {key} is no list of transforms")
    for number, step in enumerate(steps):
        made = config.component(f"{key}::{number}", step)
        if made is None:
            raise config.refused(f"its {key}::{number} is no transform")
        disabled = str(config.resolved(f"{made.key}::_disabled_", made.disabled)).lower().strip() == "true"
        keys = _names(config, made, "keys")
        counted = [at for at, name in enumerate(keys) if counts(name)]
        if disabled or made.name.startswith("Rand") or (keys and not counted):
            continue
        if len(counted) > 1:
            several = ", ".join(keys[at][:40] for at in counted[:8])
            raise _refused(config, f"its {made.key} works on several images ({several})", allowed)
        if _kind(made.name) in _LEFT_OUT and _is_monais(made):
            _refuse_other_type(config, made, allowed)
        else:
            yield made, counted[0] if counted else 0


def _checked(config: Config, step: Component, at: int, allowed: Mapping[str, Mapping[str, Check]]) -> Step:
    """A step with arguments that are known to be harmless; of those for each key, that of the key number `at`."""
    kind = _kind(step.name)
    if not (kind in allowed and _is_monais(step)):
        raise _refused(config, f"its {step.key} is {step.target[:80]}", allowed)
    if "source_key" in step.arguments and _names(config, step, "source_key") != _names(config, step, "keys")[at:][:1]:
        raise _refused(config, f"its {step.key}::source_key is of another image", allowed)
    arguments = {}
    for name, written in step.arguments.items():
        if name in _IGNORED:
            continue
        value = config.resolved(f"{step.key}::{name}", written)
        if name in _FOR_EACH_KEY and isinstance(value, list) and len(value) > at:
            value = value[at]
        check = allowed[kind].get(name)
        if check is None or not check(value):
            raise _refused(config, f"its {step.key}::{name} is {str(value)[:60]!r}", allowed)
        arguments[name] = value
    return f"{kind}d", arguments


def _painting(config: Config, step: Component) -> tuple[tuple[int, int], ...]:
    function = step.arguments.get("func")
    painting = painted(function) if isinstance(function, str) and _is_monais(step) else None
    if painting is None:
        raise _refused(config, f"its {step.key} ({step.target[:80]}) is no torch.where over channels", _AFTER)
    return painting


def _refuse_other_type(config: Config, step: Component, allowed: Mapping[str, Mapping[str, Check]]) -> None:
    if allowed is _BEFORE:
        dtype = config.resolved(f"{step.key}::dtype", step.arguments.get("dtype"))
        if not _FLOAT32(dtype[0] if isinstance(dtype, list) and dtype else dtype):
            raise _refused(config, f"its {step.key}::dtype is {str(dtype)[:60]}", allowed)


def _names(config: Config, step: Component, argument: str) -> list[str]:
    names = config.resolved(f"{step.key}::{argument}", step.arguments.get(argument, []))
    return [str(name) for name in (names if isinstance(names, list) else [names])]


def _is_monais(step: Component) -> bool:
    module = step.target.rpartition(".")[0]
    return module == "" or f"{module}.".startswith("monai.transforms.")


def _kind(name: str) -> str:
    """`name` without the ending of transforms of dictionaries."""
    shorter = (name.removesuffix(ending) for ending in ("", "Dict", "D", "d"))
    return next((candidate for candidate in shorter if candidate in _KINDS), name)


def _refused(config: Config, problem: str, allowed: Mapping[str, Mapping[str, Check]]) -> CheckpointError:
    what, otherwise = "volumes", "or run it on volumes as they are stored with --window=LOW,HIGH"
    if allowed is _AFTER:
        what, otherwise = "logits", "or take the step out and do it to the masks that come"
    known = ", ".join(f"{name}d" for name in allowed)
    remedy = f"of MONAI's transforms of {what} {known} are done here with plain arguments: leave it to the network's "
    return refusal(config.file, problem, f"{remedy}forward with --arch FILE.py:FACTORY, {otherwise}")
