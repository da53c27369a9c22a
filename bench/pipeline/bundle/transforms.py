"""MONAI's transforms, built from what `models.monai.transforms` let through, and what they give as labels."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from bench.pipeline.label_map import choose
from bench.pipeline.settings import Classes, InferenceSettings
from models.model import Step

IMAGE, LABEL, PREDICTION = "image", "label", "pred"  # MONAI's keys of a case
_MOST_CLASSES = 256  # whose numbers fit into a mask
_MOVES = ("Orientationd", "Spacingd", "CropForegroundd", "SpatialPadd", "DivisiblePadd")  # the mask with its image
_LABEL_MODES = {
    "Spacingd": "nearest", "CropForegroundd": "constant", "SpatialPadd": "constant", "DivisiblePadd": "constant",
}  # fmt: skip


def built(steps: Sequence[Step], keys: tuple[str, ...], undone: Any = None) -> Callable[[Mapping[str, Any]], Any]:
    """MONAI's Compose of `steps` for the images under `keys`, of which any may be a mask.

    Args:
        undone: what an Invertd undoes.
    """
    transforms = monai_module("transforms")
    made = []
    for name, written in steps:
        arguments = {
            key: getattr(torch, value) if key == "dtype" and value else value for key, value in written.items()
        }
        own = keys if name in _MOVES or undone is not None else keys[:1]
        if LABEL in own and name in _LABEL_MODES:
            default = "bilinear" if name == "Spacingd" else "constant"
            arguments["mode"] = (arguments.get("mode", default), _LABEL_MODES[name])
        if name == "CropForegroundd":
            arguments["source_key"] = keys[0]
        if name == "Invertd":
            arguments |= {"transform": undone, "orig_keys": IMAGE}
        made.append(getattr(transforms, name)(keys=own, **arguments))
        if name == "AsDiscreted":
            made[-1].converter = _with_quick_argmax(made[-1].converter)
    composed: Callable[[Mapping[str, Any]], Any] = transforms.Compose(made)
    return composed


def _with_quick_argmax(discrete: Any) -> Callable[..., Any]:
    """MONAI's AsDiscrete, whose argmax takes a second of each ten million voxels on a CPU: `choose` gives the same."""

    def converted(scores: Any, argmax: bool, *others: Any) -> Any:
        if argmax and scores.device.type == "cpu" and len(scores) <= _MOST_CLASSES:
            classes = Classes(tuple(range(len(scores))), None)
            numbers = choose(scores.as_tensor(), classes, torch.empty(scores.shape[1:], dtype=torch.uint8))
            scores, *_ = monai_module("utils").convert_to_dst_type(numbers[None], scores, dtype=numbers.dtype)
            argmax = False
        return discrete(scores, argmax, *others)

    return converted


def labels_of(prediction: Tensor, settings: InferenceSettings) -> Tensor:
    """The mask, uint8 ``[D, H, W]``, from what the transforms after the network gave.

    That is ``[1, D, H, W]``, numbers of classes, or ``[C, D, H, W]``, a score of each class or a mask of each region.
    """
    if settings.painting is not None or len(prediction) > 1:
        empty = torch.empty(prediction.shape[1:], dtype=torch.uint8, device=prediction.device)
        return choose(prediction, settings.classes, empty)
    classes = prediction[0].round()
    if settings.labels == tuple(range(len(settings.labels))):
        return classes.to(torch.uint8)
    return torch.tensor(settings.labels, dtype=torch.uint8, device=classes.device)[classes.long()]


def monai_module(name: str) -> Any:
    """A module of MONAI's, whose packages do not export by the rules of mypy."""
    return import_module(f"monai.{name}")
