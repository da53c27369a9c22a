"""The network as TorchScript, traced. It is a program: whoever loads it runs what is in it."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.errors import InputError
from bench.package.formats.description import (
    Subject,
    TensorInfo,
    Written,
    other_precision,
    other_runtime,
    refuse_without,
    write_plans,
)
from engines.layers import INPUT, OUTPUTS
from engines.placement import placed
from engines.pytorch.tracing import save_trace, trace_network
from models.suppress import suppress_output

FILE = "model.ts"
IS_CODE = "TorchScript is code: load it only where you trust who made it"
_BACKEND = "torchscript"  # which runs what can be traced
_TOLERANCE = 1e-4  # of logits, as a share of their largest


def refuse(subject: Subject) -> None:
    """Refuse networks that cannot be traced.

    Raises:
        InputError: one is such.
    """
    refuse_without(subject, _BACKEND)


def write(subject: Subject, folder: Path) -> Written:
    """Write ``model.ts`` into `folder`, for an ensemble one into a folder of each network.

    Raises:
        InputError: a trace answers otherwise than the network.
    """
    shape, files = subject.opening.target.input_shape, []
    for model, place in zip(subject.models, subject.places(folder), strict=True):
        outputs = write_trace(subject, model.module, shape, place / FILE)
        files.append(place / FILE)
    write_plans(subject, folder)
    return Written(
        networks=tuple(files),
        inputs=(TensorInfo(INPUT, "float32", shape),),
        outputs=tuple(TensorInfo(name, "float32", sides) for name, sides in zip(OUTPUTS, outputs, strict=True)),
        precision="fp32",
        code=True,
        remarks=(IS_CODE, *other_precision(subject, "fp32"), *other_runtime(subject, "torch")),
    )


def write_trace(subject: Subject, module: nn.Module, shape: tuple[int, ...], path: Path) -> list[tuple[int, ...]]:
    """Trace `module` on a tile of noise, save that, and return the shapes of its outputs.

    It is not frozen, so that its weights move with ``.to(device)``.

    Raises:
        InputError: the trace answers otherwise on another tile.
    """
    seed = torch.Generator().manual_seed(0)
    first, second = (torch.rand(shape, generator=seed) for _ in range(2))
    with placed(module, "cpu") as network, suppress_output(), torch.no_grad():
        traced = trace_network(network, first)
        pairs = list(zip(_tensors(traced(second)), _tensors(network(second)), strict=True))
        save_trace(traced, path)
    wrong = max(float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6)) for ours, theirs in pairs)
    if not wrong <= _TOLERANCE:
        raise InputError(
            f"--format {subject.format}: the trace of this network answers otherwise than it does (relative error "
            f"{wrong:.1g}), as where its forward branches on values; use --format package"
        )
    return [tuple(ours.shape) for ours, _ in pairs]


def _tensors(returned: Any) -> tuple[torch.Tensor, ...]:
    return (returned,) if isinstance(returned, torch.Tensor) else tuple(returned)
