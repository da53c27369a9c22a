"""Reads a trained checkpoint: its weights and what was recorded beside them, and never runs what it holds."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointError, refusal, some
from models.monai.bundle import weights_file
from models.programs.onnx_graph import read_graph
from models.programs.program import Program, load_program, refuse_untrusted
from models.reader.container import ONNX, SAFETENSORS, TORCH_LEGACY, TORCH_ZIP, container_of
from models.reader.json_values import plain
from models.reader.mapped_file import MappedFile, is_finite
from models.reader.metadata import recorded
from models.reader.safetensors import read_safetensors
from models.reader.torch_pickle.placeholders import StandIn
from models.reader.torch_pickle.unpickler import load_safely, refuse_old_torch

__all__ = ["Checkpoint", "CheckpointError", "read_checkpoint"]

# Where training scripts put the weights; of several in one file the first of this list is taken.
WRAPPERS = (
    "model_state_dict", "state_dict", "model", "network_weights", "net", "network",
    "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema",
)  # fmt: skip
# What DataParallel and DDP, torch.compile, and Lightning-like classes put before each name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
# Keys under which forks of nnU-Net put the weights of a classification head, beside those of the network.
_HEAD = re.compile(r"head|cls|classif")
_DEEPEST = 8  # a pickle can hold a dict that holds itself


@dataclass(frozen=True)
class Checkpoint:
    """A trained checkpoint, read into memory.

    Attributes:
        path: the file; of a bundle, that of its weights.
        container: ``torch-zip``, ``torch-legacy`` (before torch 1.6), ``safetensors``, ``torchscript``,
            ``torch-export`` or ``onnx``.
        keys: the file's top-level keys; empty where the weights lie bare.
        wrappers: what was taken off on the way to the weights, outermost first: dict keys, then name
            prefixes (those end in a dot).
        state: the weights by name, contiguous, on the CPU, in the dtypes of the file; independent of the file.
            Those of a head that has a key of its own (``cls_head_state``) begin with ``cls_head.``.
        dtypes: the distinct dtypes of the weights, e.g. ``float32``.
        nonfinite: names of the weights that hold NaN or infinity.
        epoch: the recorded epoch, or None.
        metrics: recorded real numbers, nested ones under dotted names; as written, units unknown.
        metadata: other plain values recorded at the top level, and settings under dotted names.
        ignored: keys that were not used, such as ``optimizer_state_dict``.
        numpy: generation of numpy that wrote the file's numbers, ``1.x`` or ``2.x``; None where it has none.
        network: the file's own network, where the file is an ONNX graph or a program that the user trusts.
        init: plain values of nnU-Net's ``init_args``: plans, configuration, dataset.
        others: keys of other sets of weights in the file, such as ``ema`` beside ``model``; not used.
    """

    path: Path
    container: str
    keys: tuple[str, ...]
    wrappers: tuple[str, ...]
    state: Mapping[str, Tensor]
    dtypes: tuple[str, ...]
    nonfinite: tuple[str, ...]
    epoch: int | None
    metrics: Mapping[str, float]
    metadata: Mapping[str, int | float | str]
    ignored: tuple[str, ...]
    numpy: str | None = None
    network: Program | None = None
    init: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def read_checkpoint(path: Path, trusted: bool = False) -> Checkpoint:
    """Read the weights in `path`, a file or a MONAI bundle, and of all else only the plain values.

    Code in it is run only if `trusted`.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, holds code, or holds no weights.
    """
    path = weights_file(path)
    container = container_of(path)
    if container not in (TORCH_ZIP, TORCH_LEGACY):
        return _read_other(path, container, trusted)
    held, numpy, mapped = load_safely(path, container)
    top = _entries(path, held)
    names = tuple(top)
    keys, named, beside = _find_weights(path, top)
    prefixes, named, dropped = _strip_prefixes(named)
    state, nonfinite = _own(path, named | _head(path, beside), mapped)
    init = _init(path, beside)
    others = tuple(name for name, value in beside.items() if name in WRAPPERS and _has_tensors(value))
    told = recorded({name: value for name, value in beside.items() if name not in others})
    return Checkpoint(
        path=path,
        container=container,
        keys=names if keys else (),
        wrappers=(*keys, *prefixes),
        state=state,
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()})),
        nonfinite=nonfinite,
        epoch=told.epoch,
        metrics=told.metrics,
        metadata=told.metadata,
        ignored=(*told.ignored, *dropped),
        numpy=numpy,
        init=init,
        others=others,
    )


def _read_other(path: Path, container: str, trusted: bool) -> Checkpoint:
    """Read a file that is no pickle: safetensors, an ONNX graph, or, if `trusted`, a program."""
    refuse_old_torch(path, torch.__version__)
    network: Program | None = None
    metadata: Mapping[str, str] = {}
    constants: list[str] = []
    if container == SAFETENSORS:
        named, metadata = read_safetensors(path)
    elif container == ONNX:
        network, named, constants = read_graph(path)
    elif trusted:
        network, named = load_program(path, container)
    else:
        raise refuse_untrusted(path, container)
    prefixes, state, dropped = _strip_prefixes(named)
    return Checkpoint(
        path=path,
        container=container,
        keys=(),
        wrappers=tuple(prefixes),
        state=state,
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()})),
        nonfinite=tuple(name for name, tensor in state.items() if not is_finite(tensor)),
        epoch=None,
        metrics={},
        metadata=metadata,
        ignored=(*constants, *dropped),
        network=network,
    )


def _entries(path: Path, held: object) -> dict[str, object]:
    """Copy a dict out of the file, with names as strings."""
    if not isinstance(held, dict):
        kind = held.kind if isinstance(held, StandIn) else type(held).__name__.strip("_")
        found = f"holds a {kind} where a dict of tensors is expected"
        raise refusal(path, found, "save the network's state_dict() with torch.save")
    # A pickle may hang attributes on an OrderedDict that hide its methods, so they are not looked up on it.
    return {str(name): value for name, value in dict.items(held)}


def _find_weights(
    path: Path, entries: dict[str, object]
) -> tuple[tuple[str, ...], dict[str, Tensor], dict[str, object]]:
    """Follow the wrapper keys down to the dict that holds tensors; return also all that was passed by."""
    keys: list[str] = []
    beside: dict[str, object] = {}
    while len(keys) < _DEEPEST:
        key = next((name for name in WRAPPERS if isinstance(entries.get(name), dict)), None)
        if key is None:
            break
        inner = _entries(path, entries.pop(key))
        keys.append(key)
        beside |= entries
        entries = inner
    named = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    beside |= {name: value for name, value in entries.items() if name not in named}
    if not named:
        where = f"under {'.'.join(keys)}" if keys else f"among its keys ({some(list(entries), 8) or 'none'})"
        remedy = f"put the network's state_dict() under one of {', '.join(WRAPPERS[:4])}, or save it bare"
        raise refusal(path, f"holds no tensors {where}", remedy)
    return tuple(keys), named, beside


def _strip_prefixes(named: dict[str, Tensor]) -> tuple[list[str], dict[str, Tensor], list[str]]:
    """Take off the prefixes that all weights share, again and again.

    torch's AveragedModel keeps its counter beside the prefixed weights; it is set aside.
    """
    averaged = [name for name in named if name == "n_averaged" and len(named) > 1]
    rest = {name: tensor for name, tensor in named.items() if name not in averaged}
    if averaged and not all(name.startswith("module.") for name in rest):
        averaged, rest = [], named
    prefixes: list[str] = []
    while rest and (
        prefix := next((p for p in PREFIXES if all(n.startswith(p) and len(n) > len(p) for n in rest)), None)
    ):
        prefixes.append(prefix)
        rest = {name.removeprefix(prefix): tensor for name, tensor in rest.items()}
    return prefixes, rest, averaged


def _head(path: Path, beside: dict[str, object]) -> dict[str, Tensor]:
    """Take the weights of a classification head from beside those of the network."""
    held = [name for name, value in beside.items() if _HEAD.search(name) and _has_tensors(value)]
    if not held:
        return {}
    entries = _entries(path, beside.pop(held[0]))
    return {f"cls_head.{name}": value for name, value in entries.items() if isinstance(value, Tensor)}


def _has_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(one, Tensor) for one in dict.values(value))


def _init(path: Path, beside: dict[str, object]) -> dict[str, Any]:
    """Take the plain values of nnU-Net's ``init_args``."""
    if not isinstance(beside.get("init_args"), dict):
        return {}
    try:
        return dict(plain(beside.pop("init_args")))
    except ValueError as error:
        raise refusal(path, f"holds under init_args {error}", "give a file that nnU-Net wrote") from None


def _own(path: Path, named: dict[str, Tensor], mapped: MappedFile) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Copy tensors out of the file, so that it may change or go away; name those with NaN or infinity.

    Weights that are tied in the file are one tensor here too.
    """
    distinct: dict[object, Tensor] = {}
    keys: dict[str, object] = {}
    for name, tensor in named.items():
        _refuse_unusual(path, name, tensor)
        keys[name] = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        distinct.setdefault(keys[name], tensor)
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())
    if claimed > 2 * path.stat().st_size:
        found = f"makes {claimed} bytes of weights of a smaller file, by using the same bytes again and again"
        raise refusal(path, found, "call .clone() on the weights before saving them")
    with ThreadPoolExecutor(2) as pool:  # most of the time goes into fresh pages, which two can fill
        copies = dict(zip(distinct, pool.map(mapped.copy, distinct.values()), strict=True))
    state = {name: copies[key][0] for name, key in keys.items()}
    return state, tuple(name for name, key in keys.items() if not copies[key][1])


def _refuse_unusual(path: Path, name: str, tensor: Tensor) -> None:
    plain = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    if not plain:
        found = f"holds {name} as a {tensor.device.type} tensor of layout {tensor.layout} and type {tensor.dtype}"
        raise refusal(path, found, "save plain dense weights")
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > stored:
        # A stride of zero can make a few bytes look like terabytes.
        found = f"claims {tensor.numel()} elements for {name} and stores {stored} bytes"
        raise refusal(path, found, "call .contiguous() on the weights before saving them")
