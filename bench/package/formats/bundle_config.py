"""``inference.json`` and ``metadata.json`` of a MONAI bundle, as plain values that say what the run did."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.pipeline.settings import InferenceSettings
from engines.probe import distribution_version
from models.model import Model, Step
from models.task import intensity_unit

IMAGE, PREDICTION = "image", "pred"  # MONAI's keys of a case
WEIGHTS, PROGRAM = "models/model.pt", "models/model.ts"
NEEDED = ("fire", "nibabel", "pytorch-ignite")  # beside MONAI by the command that runs a bundle
EVALUATED = ("network_def", "network", "preprocessing", "dataset", "inferer", "postprocessing", "evaluator")
"""What a configuration must have at its top to be run as it is."""

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20220324.json"
_OLDEST_MONAI = "1.5.0"  # that this project runs with


def load_program() -> str:
    """The expression that loads the network's TorchScript."""
    return f"$torch.jit.load(@bundle_root + '/{PROGRAM}', map_location=@device)"


def inference_of(settings: InferenceSettings, network: Any, batch: int, *, weights: bool) -> dict[str, Any]:
    """What runs `network` from files to masks as `settings` say.

    Args:
        network: what stands under ``network_def``.
        batch: tiles in a pass, at most.
        weights: whether they are still to be loaded into it.
    """
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": f"$@bundle_root + '/{WEIGHTS}'",
        "load_dict": {"model": "@network"},
    }
    loaded = {"checkpointloader": loader, "initialize": ["$@checkpointloader(@evaluator)"]}
    return {
        "imports": ["$import glob", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "image_key": IMAGE,
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": _datalist(settings.channels),
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": _compose(_before(settings)),
        "dataset": {
            "_target_": "Dataset", "data": "$[{@image_key: i} for i in @datalist]", "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": inferer_of(settings, batch),
        "postprocessing": _compose(_after(settings)),
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
            "val_handlers": "@handlers", "amp": False,
        },
        **(loaded if weights else {"initialize": []}),
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def inferer_of(settings: InferenceSettings, batch: int) -> dict[str, Any]:
    """MONAI's sliding window with the run's tile, overlap, weights and padding."""
    return {
        "_target_": "SlidingWindowInferer",
        "roi_size": list(settings.tile),
        "sw_batch_size": batch,
        "overlap": settings.overlap,
        **settings.sliding_window,
    }


def _datalist(channels: int) -> str:
    """Files of one channel; of several a list for each case, in the order of the numbers in their names.

    What is missing stays in its place, and what is too many is appended, so that MONAI refuses either; so it does a
    folder without any image, which else is left out without an error, and a file beside its packed one, whose masks
    would have one name.
    """
    twice = "f'{file} beside {file}.gz; remove one'"
    if channels == 1:
        return (
            f"$[{twice} if glob.glob(glob.escape(file) + '.gz') else file"
            " for ending in ('.nii', '.nii.gz') for file in sorted(glob.glob(@dataset_dir + '/*' + ending))]"
            " or [@dataset_dir + '/NAME.nii.gz']"
        )
    numbered = f"(f'{{case}}_{{i:04}}{{ending}}' for i in range({channels}))"
    beside = f"({twice} for file in glob.glob(case + '_????.nii') if glob.glob(glob.escape(file) + '.gz'))"
    return (
        f"$[sorted({{*{numbered}, *glob.glob(case + '_????' + ending), *{beside}}})"
        " for ending in ('.nii', '.nii.gz') for case in sorted({file[:-len(ending)].rsplit('_', 1)[0]"
        " for file in glob.glob(@dataset_dir + '/*' + ending)})]"
        " or [[@dataset_dir + '/NAME_0000.nii.gz']]"
    )


def _before(settings: InferenceSettings) -> list[dict[str, Any]]:
    reading = [_step("LoadImaged", "@image_key"), _step("EnsureChannelFirstd", "@image_key")]
    if settings.bundle is not None:
        return [*reading, *_steps(settings.bundle.preprocessing, "@image_key"), _step("EnsureTyped", "@image_key")]
    low, high = settings.window
    scaled = {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return [*reading, _step("ScaleIntensityRanged", "@image_key", **scaled), _step("EnsureTyped", "@image_key")]


def _after(settings: InferenceSettings) -> list[dict[str, Any]]:
    own = () if settings.bundle is None else settings.bundle.postprocessing
    steps = _steps(own, PREDICTION)
    labels = settings.labels
    if settings.painting is not None:
        steps.append(_step("Lambdad", PREDICTION, func=_painting(labels, settings.painting)))
    else:
        # Labels may have been interpolated on the way back.
        chosen = {"rounding": "torchrounding"} if _are_labels(own) else {"argmax": True}
        steps.append(_step("AsDiscreted", PREDICTION, **chosen))
        other = [(number, label) for number, label in enumerate(labels) if number != label]
        if other:
            before, after = (list(each) for each in zip(*other, strict=True))
            steps.append(_step("MapLabelValued", PREDICTION, orig_labels=before, target_labels=after))
    saved = {
        "output_dir": "@output_dir", "output_ext": ".nii.gz", "output_dtype": "$numpy.uint8", "output_postfix": "seg",
        "separate_folder": False, "resample": False, "print_log": False,
    }  # fmt: skip
    return [*steps, _step("SaveImaged", PREDICTION, **saved)]


def _are_labels(steps: Sequence[Step]) -> bool:
    """Whether steps leave the number of a class in each voxel, and not a score of each class."""
    numbers = False
    for _, arguments in steps:
        numbers = (numbers or bool(arguments.get("argmax"))) and not arguments.get("to_onehot")
    return numbers


def _painting(labels: Sequence[int], painting: Sequence[int]) -> str:
    """Paints regions one over the other; logits, or masks of 0 and 1, are above 0 inside."""
    painted = "torch.zeros_like(x[[0]])"
    for channel in painting:
        painted = f"torch.where(x[[{channel}]] > 0, {labels[channel]}, {painted})"
    return f"$lambda x: {painted}"


def _steps(steps: Sequence[Step], key: str) -> list[dict[str, Any]]:
    return [_step(name, key, **_arguments(name, dict(arguments))) for name, arguments in steps]


def _arguments(name: str, held: dict[str, Any]) -> dict[str, Any]:
    """A transform's arguments as a configuration has them."""
    if isinstance(held.get("dtype"), str):
        held["dtype"] = f"$torch.{held['dtype']}"
    if name == "CropForegroundd":
        held["source_key"] = "@image_key"
    if name == "Invertd":
        held |= {"transform": "@preprocessing", "orig_keys": "@image_key"}
    return held


def _step(name: str, key: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": key, **arguments}


def _compose(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": steps}


def metadata_of(model: Model, settings: InferenceSettings, name: str, said: str) -> dict[str, Any]:
    """What ``metadata.json`` must say by MONAI's specification; `said` of the run goes into its description."""
    task, tile = model.task, list(settings.tile)
    on_ct = intensity_unit(task.channels) != ""
    patch = {"spatial_shape": tile, "dtype": "float32", "is_patch_data": True}
    outputs = [region.structure for region in task.regions] or _named(settings.labels, task.labels)
    image = {
        "type": "image", "format": "hounsfield" if on_ct else "magnitude", "modality": "CT" if on_ct else "n/a",
        "num_channels": settings.channels, "value_range": [] if settings.bundle else [0, 1], **patch,
        "channel_def": _numbered(task.channels),
    }  # fmt: skip
    pred = {
        "type": "image", "format": "segmentation", "num_channels": len(settings.labels), "value_range": [], **patch,
        "channel_def": _numbered(outputs),
    }  # fmt: skip
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "exported by voxbench"},
        "monai_version": distribution_version("monai") or _OLDEST_MONAI,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": distribution_version("numpy"),
        "optional_packages_version": {package: distribution_version(package) or "any" for package in NEEDED},
        "name": name,
        "task": f"segmentation: {task.name}",
        "description": said,
        "authors": "not known to voxbench",
        "copyright": "not known to voxbench",
        "data_source": "not known to voxbench",
        "data_type": "nibabel",
        "image_classes": ", ".join(task.channels),
        "label_classes": ", ".join(f"{label} {name}" for name, label in task.labels.items()),
        "pred_classes": ", ".join(outputs),
        "eval_metrics": {},
        "intended_use": "that of the network it was made of",
        "references": [],
        "network_data_format": {"inputs": {IMAGE: image}, "outputs": {PREDICTION: pred}},
    }


def _named(labels: Sequence[int], names: Mapping[str, int]) -> list[str]:
    by_label = {label: name for name, label in names.items()}
    return [by_label[label] for label in labels]


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def filled(own: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """`own`, with what is missing in it or in tables of it taken from `usual`."""
    both = {name: (own[name], usual[name]) for name in usual if name in own}
    tables = {name: pair for name, pair in both.items() if all(isinstance(each, Mapping) for each in pair)}
    return {**usual, **own, **{name: filled(*pair) for name, pair in tables.items()}}
