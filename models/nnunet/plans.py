"""nnU-Net's plans: found beside a checkpoint or in it, and checked, so that nothing unknown that they name is run.

What they name (classes, functions) is looked up in the tables here and never imported by its name. What is left of the
plans after the checks is what nnU-Net itself is given later.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.errors import install, kind_and_line, refusal
from models.model import Plans
from models.nnunet.dataset import kept_dataset
from models.reader.checkpoint import Checkpoint
from models.reader.json_values import read_json
from models.reader.source import is_fold
from models.suppress import suppress_output

_PLANS, _DATASET = "plans.json", "dataset.json"
_KEYS = {_PLANS: "plans", _DATASET: "dataset_json"}  # of a checkpoint's init_args, in the place of the files
_READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")
_RESAMPLING = ("resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack")
_RESAMPLING_OPTIONS = (
    "is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold", "memefficient_seg_resampling",
    "mode", "aniso_axis_mode",
)  # fmt: skip
_RESAMPLING_MODES = ("linear", "nearest", "nearest-exact")
_NORMALISATIONS = (
    "CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization",
)  # fmt: skip
_STATISTICS = ("mean", "std", "percentile_00_5", "percentile_99_5")
_LONGEST_LIST = 64  # entries; of stages, nnU-Net plans at most nine
_LARGEST_PATCH = 512**3  # voxels
_SPACINGS = (0.05, 50.0)  # mm


def has_plans(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint holds plans, or its network has nnU-Net's names and plans lie beside it."""
    named = any("decoder.seg_layers." in name for name in checkpoint.state)
    beside = any((folder / _PLANS).is_file() for folder in _folders(checkpoint.path))
    return isinstance(checkpoint.init.get("plans"), dict) or (named and beside)


def find_plans(checkpoint: Checkpoint) -> Plans:
    """Read ``plans.json`` and ``dataset.json`` beside the checkpoint or one folder up, else its own ``init_args``.

    Both files come from one folder. Only what inference needs is kept: one configuration, its inheritance resolved.

    Raises:
        CheckpointError: there are none, they are damaged, name something unknown, contradict those that the checkpoint
            holds, or are of a kind that is not run here: 2d or a cascade.
    """
    folders = _folders(checkpoint.path)
    there = next((folder for folder in folders if any((folder / file).is_file() for file in _KEYS)), None)
    plans, dataset = (_contents(checkpoint, there, file) for file in _KEYS)
    try:
        read = _read(plans, dataset, _named_configuration(checkpoint))
    except ModuleNotFoundError as error:
        if error.name != "nnunetv2":
            raise
        problem = "is a network of nnU-Net, which needs the package nnunetv2, and it is not installed"
        raise refusal(checkpoint.path, problem, install("nnunet")) from None
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        raise refusal(
            checkpoint.path, f"its nnU-Net plans {problem}", remedy or "give plans that nnU-Net wrote"
        ) from None
    if there is not None:
        _refuse_other_training(checkpoint, there, read, plans, dataset)
    return read


def _read(plans: Mapping[str, Any], dataset: Mapping[str, Any], named: str | None) -> Plans:
    name = _configuration_name(plans, named)
    kept = kept_dataset(dataset)
    return Plans(_plans(plans, name, len(kept["channel_names"])), kept, name)


def _contents(checkpoint: Checkpoint, there: Path | None, file: str) -> dict[str, Any]:
    if there is not None and (there / file).is_file():
        return read_json(there / file)
    held = checkpoint.init.get(_KEYS[file])
    if isinstance(held, dict):
        return held
    problem = f"is a network of nnU-Net without its {file}"
    raise refusal(checkpoint.path, problem, f"put {file} of the results folder beside it, or one folder above it")


def _folders(path: Path) -> tuple[Path, ...]:
    """Of the checkpoint by its name, which may be a link into a store of files without names, then of its target."""
    return tuple(
        folder for place in (path.absolute(), path.resolve()) for folder in (place.parent, place.parent.parent)
    )


def _refuse_other_training(
    checkpoint: Checkpoint, there: Path, read: Plans, plans: Mapping[str, Any], dataset: Mapping[str, Any]
) -> None:
    """Files of another training may lie where a checkpoint was put, and its own plans say what it was trained by."""
    own_plans, own_dataset = (checkpoint.init.get(key) for key in _KEYS.values())
    try:
        trained = _read(
            own_plans if isinstance(own_plans, dict) else plans,
            own_dataset if isinstance(own_dataset, dict) else dataset,
            read.configuration,
        )
    except ValueError:
        return  # its own are of no use, and those beside it take their place
    for (file, values), own in zip(_compared(read).items(), _compared(trained).values(), strict=True):
        differing = [what for what, value in values.items() if value != own[what]]
        if differing:
            shown = f"{values[differing[0]]}, in the checkpoint {own[differing[0]]}"
            place = f"{there.name}/{file}"
            problem = f"holds the plans of its training, and {place} differs in {', '.join(differing)} ({shown})"
            remedy = f"put {_PLANS} and {_DATASET} of its own training there, or take both away to use those it holds"
            raise refusal(checkpoint.path, problem, remedy)


def _compared(plans: Plans) -> dict[str, dict[str, Any]]:
    """What decides on intensities, spacing and masks, by the file that says it."""
    held, dataset, configuration = plans.plans, plans.dataset, plans.plans["configurations"][plans.configuration]
    return {
        _PLANS: {
            "spacing": configuration["spacing"],
            "patch size": configuration["patch_size"],
            "normalisation": [configuration["normalization_schemes"], configuration["use_mask_for_norm"]],
            "intensities": held["foreground_intensity_properties_per_channel"],
            "order of axes": held["transpose_forward"],
        },
        _DATASET: {
            "channels": dataset["channel_names"],
            "labels": dataset["labels"],
            "regions": [dataset["regions_class_order"], [*dataset["labels"]] if dataset["regions_class_order"] else []],
        },
    }


def _named_configuration(checkpoint: Checkpoint) -> str | None:
    """What the checkpoint says, or the name of nnU-Net's folder ``TRAINER__PLANS__CONFIGURATION`` that it lies in."""
    named = checkpoint.init.get("configuration")
    path = checkpoint.path.absolute()
    parts = path.parent.parent.name.split("__")
    of_folder = parts[2] if is_fold(path.parent) and len(parts) == 3 else None
    if not isinstance(named, str):
        return of_folder
    if of_folder not in (None, named):
        problem = f"says that it is of nnU-Net's {named[:40]}, and lies in a folder of {of_folder[:40]}"
        raise refusal(checkpoint.path, problem, "put it into the results folder of its own training")
    return named


def _configuration_name(plans: Mapping[str, Any], named: str | None) -> str:
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict) or not 0 < len(configurations) <= _LONGEST_LIST:
        raise ValueError("have no configurations")
    if named is not None:
        if named not in configurations:
            raise ValueError(f"have no configuration {named!r}; put the plans.json of its training beside it")
        return named
    volumes = [name for name, configuration in configurations.items() if not _is_2d(configuration)]
    if len(volumes) != 1:
        raise ValueError(
            f"have the configurations {', '.join(map(str, configurations))}, and the checkpoint does not say which is "
            "its own; leave only that one in plans.json"
        )
    return str(volumes[0])


def _is_2d(configuration: object) -> bool:
    patch = configuration.get("patch_size") if isinstance(configuration, dict) else None
    return isinstance(patch, list) and len(patch) == 2


def _plans(plans: Mapping[str, Any], name: str, channels: int) -> dict[str, Any]:
    forward = _list_of(plans.get("transpose_forward"), int, "transpose_forward")
    backward = _list_of(plans.get("transpose_backward"), int, "transpose_backward")
    if sorted(backward) != [0, 1, 2] or [forward[axis] for axis in backward] != [0, 1, 2]:
        raise ValueError(f"transpose axes by {forward} and back by {backward}")
    statistics = plans.get("foreground_intensity_properties_per_channel")
    if statistics is None:
        statistics = plans.get("foreground_intensity_properties_by_modality")
    if plans.get("label_manager", "LabelManager") != "LabelManager":
        raise ValueError(f"name the label manager {plans['label_manager']!r}, which is not known here")
    configuration = _configuration(_resolved(plans, name), name, channels)
    return {
        "dataset_name": str(plans.get("dataset_name", ""))[:80],
        "image_reader_writer": _known(plans, "image_reader_writer", _READERS, "reader"),
        "transpose_forward": forward,
        "transpose_backward": backward,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): _statistics(statistics, str(channel), scheme)
            for channel, scheme in enumerate(configuration["normalization_schemes"])
        },
        "configurations": {name: configuration},
    }


def _resolved(plans: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The configuration with what it inherits, and of plans before nnU-Net 2.4 the architecture in today's words."""
    for configuration in plans["configurations"].values():
        if not isinstance(configuration, dict) or any(
            isinstance(value, list) and len(value) > _LONGEST_LIST for value in configuration.values()
        ):
            raise ValueError("have a configuration that is no configuration of nnU-Net")
    with suppress_output():
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        try:
            resolved = PlansManager(dict(plans)).get_configuration(name).configuration
        except Exception as error:  # whatever missing or odd entries make nnU-Net raise
            raise ValueError(f"are not understood by nnU-Net ({kind_and_line(error)})") from None
    return dict(resolved)


def _configuration(held: Mapping[str, Any], name: str, channels: int) -> dict[str, Any]:
    patch = _list_of(held.get("patch_size"), int, "patch_size", None)
    if len(patch) == 2:
        raise ValueError(f"are of a 2d network ({name}); give the checkpoint of a 3d configuration")
    if len(patch) != 3 or min(patch) < 1 or math.prod(patch) > _LARGEST_PATCH:
        raise ValueError(f"have the patch size {patch}")
    if held.get("previous_stage") is not None:
        raise ValueError(f"are of a cascade ({name} needs {held['previous_stage']}); give the checkpoint of 3d_fullres")
    spacing = _list_of(held.get("spacing"), float, "spacing")
    if not all(_SPACINGS[0] <= mm <= _SPACINGS[1] for mm in spacing):
        raise ValueError(f"have the spacing {spacing} mm")
    schemes = held.get("normalization_schemes")
    if not isinstance(schemes, list) or len(schemes) != channels:
        count = len(schemes) if isinstance(schemes, list) else "no"
        raise ValueError(f"normalise {count} channels, and the dataset.json names {channels}")
    if not isinstance(held.get("architecture"), dict):
        raise ValueError("name no architecture")
    kept = {
        "preprocessor_name": _known(held, "preprocessor_name", ("DefaultPreprocessor",), "preprocessor"),
        "patch_size": patch,
        "spacing": spacing,
        "normalization_schemes": [_known({"it": it}, "it", _NORMALISATIONS, "normalisation") for it in schemes],
        "use_mask_for_norm": _list_of(held.get("use_mask_for_norm"), bool, "use_mask_for_norm", channels),
        "architecture": held["architecture"],
    }
    for what in ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"):
        kept[what] = _known(held, what, _RESAMPLING, "resampling function")
        kept[f"{what}_kwargs"] = _resampling_options(held.get(f"{what}_kwargs"))
    return kept


def _resampling_options(held: object) -> dict[str, Any]:
    if not isinstance(held, dict):
        raise ValueError("do not say how volumes are resampled")
    for name, value in held.items():
        order = name in ("order", "order_z")
        if name not in _RESAMPLING_OPTIONS or (order and value not in range(6)):
            raise ValueError(f"resample with {str(name)[:40]} = {str(value)[:40]}, which is not known here")
        if isinstance(value, str | list | dict) and value not in _RESAMPLING_MODES:
            raise ValueError(f"resample with {name} = {str(value)[:40]}, which is not known here")
    return held


def _statistics(held: object, channel: str, scheme: str) -> dict[str, float]:
    numbers = held.get(channel) if isinstance(held, dict) else None
    numbers = numbers if isinstance(numbers, dict) else {}
    kept = {name: float(numbers[name]) for name in _STATISTICS if _finite(numbers.get(name))}
    if len(kept) < len(_STATISTICS) and scheme == "CTNormalization":
        raise ValueError(
            f"do not hold the intensities (mean, std, percentiles) that CTNormalization needs of channel {channel}"
        )
    return kept


def _known(held: Mapping[str, Any], key: str, table: tuple[str, ...], what: str) -> str:
    name = held.get(key)
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"name the {what} {str(name)[:80]!r} (known are {', '.join(table)})")
    return name


def _list_of(held: object, kind: Callable[[Any], Any], what: str, length: int | None = 3) -> list[Any]:
    values = held if isinstance(held, list) else []
    if not values or not all(_finite(value) for value in values) or len(values) != (length or len(values)):
        raise ValueError(f"have the {what} {str(held)[:80]}")
    return [kind(value) for value in values]


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**53  # which NaN is not either
