"""Networks whose logits are averaged: what they must have in common, and the mean as a network of its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import refusal
from models.model import Model

_SAME = "give networks of one training, such as its folds"
_ALIKE = {
    "architecture": "architecture",
    "width": "width",
    "plans": "nnU-Net plans or dataset.json",
    "mirror_axes": "allowed mirroring",
    "bundle": "bundle's transforms",
    "tile": "tile",
    "window": "window",
    "overlap": "overlap",
    "labels": "labels",
    "painting": "painting of regions",
    "subtypes": "classes of a case",
    "task": "task",
}  # fields of a model, and their words


class Ensemble(nn.Module):
    """The mean of the logits of several networks, as nnU-Net's predictor takes it.

    Attributes:
        members: the networks.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, channels, D, H, W]`` to ``[B, classes, D, H, W]`` and ``[B, subtypes]``."""
        # One that writes into its input must not spoil that of the next.
        pairs = [member(x.clone()) for member in self.members]
        segmentation, classification = (torch.stack(logits).mean(0) for logits in zip(*pairs, strict=True))
        return segmentation, classification


def members_of(module: nn.Module) -> tuple[nn.Module, ...]:
    """The networks of an ensemble; any other network alone."""
    return tuple(module.members) if isinstance(module, Ensemble) else (module,)


def ensemble_of(models: Sequence[Model]) -> Model:
    """One model that gives the mean of their logits; a single one stays as it is."""
    return models[0] if len(models) == 1 else replace(models[0], module=Ensemble([model.module for model in models]))


def refuse_unlike(path: Path, model: Model, others: Sequence[tuple[Path, Model]]) -> None:
    """Refuse `model`, read from `path`, as a further member of the ensemble of `others`.

    Raises:
        CheckpointError: it is another network, another task, or has the same weights as one of them.
    """
    first_path, first = others[0]
    for name, words in _ALIKE.items():
        own, theirs = getattr(model, name), getattr(first, name)
        if own != theirs:
            values = f" ({_shown(own)}, there {_shown(theirs)})" if _shown(own) and _shown(theirs) else ""
            problem = f"is no network of an ensemble with {first_path}: it differs in its {words}{values}"
            raise refusal(path, problem, _SAME)
    if (model.program is None) != (first.program is None) or (model.program is None and model.code != first.code):
        raise refusal(path, f"is no network of an ensemble with {first_path}: it differs in its code", _SAME)
    for other_path, other in others:
        if (model.sha256, model.code) == (other.sha256, other.code):
            raise refusal(path, f"has the same weights as {other_path}", "name each network of an ensemble once")


def _shown(value: Any) -> str:
    """A value that a line has room for; empty for any other."""
    if isinstance(value, str | int | float):
        return str(value)[:80]
    plain = isinstance(value, tuple) and all(isinstance(part, int | float) for part in value)
    return (", ".join(map(str, value)) or "none") if plain else ""
