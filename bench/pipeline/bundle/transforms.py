"""MONAI's transforms, built from what `models.monai.transforms` let through, and what they give as labels."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from bench.pipeline.label_map import paint
from bench.pipeline.settings import InferenceSettings
from models.model import Step

IMAGE, LABEL, PREDICTION = "image", "label", "pred"  # MONAI's keys of a case
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
    composed: Callable[[Mapping[str, Any]], Any] = transforms.Compose(made)
    return composed


def labels_of(prediction: Tensor, settings: InferenceSettings) -> Tensor:
    """The mask, uint8 ``[D, H, W]``, from what the transforms after the network gave.

    That is ``[1, D, H, W]``, numbers of classes, or ``[C, D, H, W]``, a score of each class or a mask of each region.
    """
    if settings.painting is not None:
        empty = torch.empty(prediction.shape[1:], dtype=torch.uint8, device=prediction.device)
        return paint(prediction, settings.labels, settings.painting, empty)
    classes = prediction[0].round() if len(prediction) == 1 else prediction.argmax(0)
    if settings.labels == tuple(range(len(settings.labels))):
        return classes.to(torch.uint8)
    return torch.tensor(settings.labels, dtype=torch.uint8, device=classes.device)[classes.long()]


def monai_module(name: str) -> Any:
    """A module of MONAI's, whose packages do not export by the rules of mypy."""
    return import_module(f"monai.{name}")
