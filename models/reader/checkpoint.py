"""Reads a trained checkpoint: its weights and what was recorded beside them, and never runs what it holds."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import refusal, some
from models.model import Program
from models.reader.container import SAFETENSORS, TORCH_ZIP
from models.reader.json_values import json_values
from models.reader.mapped_file import MappedFile, is_finite
from models.reader.metadata import metadata_of
from models.reader.safetensors import read_safetensors
from models.reader.source import Source
from models.reader.torch_pickle.placeholders import Placeholder
from models.reader.torch_pickle.unpickler import load_safely
from models.reader.weight_sets import WRAPPERS, Keys, usual_place, weight_sets

# What DataParallel and DDP, torch.compile, and Lightning-like classes put before each name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
# Keys under which forks of nnU-Net put the weights of a classification head, beside those of the network.
_HEAD = re.compile(r"head|cls|classif")
_MIRRORING = "inference_allowed_mirroring_axes"
_COUNTERS = ("total_ops", "total_params")
_WIDEST = 2.0**53  # of a window's bounds, lest an integer be no float


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained checkpoint, read into memory.

    Attributes:
        source: where it was read from.
        keys: the file's top-level keys; empty where the weights lie bare.
        wrappers: what was taken off on the way to the weights, outermost first: dict keys, then name
            prefixes (those end in a dot).
        state: the weights by name, contiguous, on the CPU, in the dtypes of the file; independent of the file.
            Those of a head that has a key of its own (``cls_head_state``) begin with ``cls_head.``.
        nonfinite: names of the weights that hold NaN or infinity.
        epoch: the recorded epoch, or None.
        metrics: recorded real numbers, nested ones under dotted names; as written, units unknown.
        metadata: other plain values recorded at the top level, and settings under dotted names.
        ignored: keys that were not used, such as ``optimizer_state_dict``.
        numpy: generation of numpy that wrote the file's numbers, ``1.x`` or ``2.x``; None where it has none.
        init: plain values of nnU-Net's ``init_args``: plans, configuration, dataset.
        mirror_axes: nnU-Net's ``inference_allowed_mirroring_axes``, empty where it allows none; None without it.
        task: plain values under ``task``, as of a task file; empty where nothing there has channels and labels.
        window: of a checkpoint with a task, the two numbers under ``window``, lower first: intensities that
            preprocessing maps to 0 and 1.
        place: keys that lead to the weights in the file.
        others: places of other sets of weights in the file, such as ``ema`` beside ``model``; not used.
        usual: the weights lie where training scripts put them, and not merely in some dict of the file.
        program: the file's own network, where the file is an ONNX graph or a program that the user trusts.
    """

    source: Source
    keys: tuple[str, ...] = ()
    wrappers: tuple[str, ...]
    state: Mapping[str, Tensor]
    nonfinite: tuple[str, ...]
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, int | float | str] = field(default_factory=dict)
    ignored: tuple[str, ...]
    numpy: str | None = None
    init: Mapping[str, Any] = field(default_factory=dict)
    mirror_axes: tuple[int, ...] | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    window: tuple[float, float] | None = None
    place: Keys = ()
    others: tuple[Keys, ...] = ()
    usual: bool = True
    program: Program | None = None

    @property
    def path(self) -> Path:
        """The file of the weights."""
        return self.source.path

    @property
    def container(self) -> str:
        """The kind of file."""
        return self.source.container

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The distinct dtypes of the weights, e.g. ``float32``."""
        return tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in self.state.values()}))


def read_tensors(source: Source, place: Keys | None = None) -> Checkpoint:
    """Read the weights in a file of `torch.save` or safetensors, and of all else only the plain values.

    Of several sets of weights it is that at `place`; left out, the one where training scripts put it, or the first.

    Raises:
        CheckpointError: the file is damaged, holds code, or holds no weights.
    """
    if source.container == SAFETENSORS:
        return bare_checkpoint(source, *read_safetensors(source.path))
    path = source.path
    held, numpy, mapped = load_safely(path, zipped=source.container == TORCH_ZIP)
    top = _entries(path, held)
    names, sets, usual = tuple(top), weight_sets(held), usual_place(held)
    where = place if place is not None else usual if usual in sets or not sets else sets[0]
    named, beside = _weights_at(path, top, where)
    prefixes, named, dropped = _strip_prefixes(named)
    state, nonfinite = _copied(path, named | (_head(path, beside) if where == usual else {}), mapped)
    init, task, mirror_axes = _init(path, beside), _task(path, beside), _mirror_axes(beside)
    window = _window(beside) if task else None  # else it may be of something else
    others = tuple(keys for keys in sets if keys != where and not _is_head(keys, where, usual))
    metadata = metadata_of({name: value for name, value in beside.items() if not weight_sets({name: value})})
    return Checkpoint(
        source=source,
        keys=names if where else (),
        wrappers=(*where, *prefixes),
        state=state,
        nonfinite=nonfinite,
        epoch=metadata.epoch,
        metrics=metadata.metrics,
        metadata=metadata.values,
        ignored=(*metadata.ignored, *dropped),
        numpy=numpy,
        init=init,
        mirror_axes=mirror_axes,
        task=task,
        window=window,
        place=where,
        others=others,
        usual=where == usual,
    )


def bare_checkpoint(
    source: Source, tensors: dict[str, Tensor], metadata: Mapping[str, str] | None = None, ignored: Sequence[str] = ()
) -> Checkpoint:
    """The checkpoint of a file that holds `tensors` by name and no dicts around them."""
    prefixes, state, dropped = _strip_prefixes(tensors)
    return Checkpoint(
        source=source,
        wrappers=tuple(prefixes),
        state=state,
        nonfinite=tuple(name for name, tensor in state.items() if not is_finite(tensor)),
        metadata=metadata or {},
        ignored=(*ignored, *dropped),
    )


def _entries(path: Path, held: object) -> dict[str, object]:
    """Copy a dict out of the file, with names as strings."""
    if not isinstance(held, dict):
        kind = held.kind if isinstance(held, Placeholder) else type(held).__name__.strip("_")
        problem = f"holds a {kind} where a dict of tensors is expected"
        raise refusal(path, problem, "save the network's state_dict() with torch.save")
    # A pickle may hang attributes on an OrderedDict that hide its methods, so they are not looked up on it.
    return {str(name): value for name, value in dict.items(held)}


def _weights_at(path: Path, entries: dict[str, object], where: Keys) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors in the dict that the keys `where` lead to; and all that was passed by."""
    beside: dict[str, object] = {}
    for key in where:
        inner = _entries(path, entries.pop(key))
        beside |= entries
        entries = inner
    named = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    beside |= {name: value for name, value in entries.items() if name not in named}
    if not named:
        place = f"under {'.'.join(where)}" if where else f"among its keys ({some(list(entries), 8) or 'none'})"
        remedy = f"put the network's state_dict() under one of {', '.join(WRAPPERS[:4])}, or save it bare"
        raise refusal(path, f"holds no tensors {place}", remedy)
    return named, beside


def _strip_prefixes(named: dict[str, Tensor]) -> tuple[list[str], dict[str, Tensor], list[str]]:
    """Take off the prefixes that all weights share, again and again; counters beside them need not share them.

    torch's AveragedModel keeps its counter beside the prefixed weights; it is set aside.
    """
    averaged = [name for name in named if name == "n_averaged" and len(named) > 1]
    rest = {name: tensor for name, tensor in named.items() if name not in averaged}
    if averaged and not all(name.startswith("module.") for name in rest):
        averaged, rest = [], named
    prefixes: list[str] = []
    while prefix := _shared_prefix([name for name in rest if not is_counter(name)]):
        prefixes.append(prefix)
        rest = {name.removeprefix(prefix): tensor for name, tensor in rest.items()}
    return prefixes, rest, averaged


def _shared_prefix(names: list[str]) -> str | None:
    shared = (p for p in PREFIXES if names and all(name.startswith(p) and len(name) > len(p) for name in names))
    return next(shared, None)


def is_counter(name: str) -> bool:
    """Whether a tensor of this name counts what a network costs: the FLOP profiler thop leaves such in the weights."""
    return name.rpartition(".")[2] in _COUNTERS


def _is_head(keys: Keys, where: Keys, usual: Keys) -> bool:
    """Whether these weights were taken in beside those at the usual place, as `_head` does."""
    return where == usual and bool(_HEAD.search(keys[-1] if keys else ""))


def _head(path: Path, beside: dict[str, object]) -> dict[str, Tensor]:
    """Take the weights of a classification head from beside those of the network."""
    held = [name for name, value in beside.items() if _HEAD.search(name) and _has_tensors(value)]
    if not held:
        return {}
    entries = _entries(path, beside.pop(held[0]))
    return {f"cls_head.{name}": value for name, value in entries.items() if isinstance(value, Tensor)}


def _has_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(member, Tensor) for member in dict.values(value))


def _init(path: Path, beside: dict[str, object]) -> dict[str, Any]:
    """Take the plain values of nnU-Net's ``init_args``."""
    if not isinstance(beside.get("init_args"), dict):
        return {}
    return _plain(path, beside, "init_args", "give a file that nnU-Net wrote")


def _task(path: Path, beside: dict[str, object]) -> dict[str, Any]:
    """Take the plain values of a task; others keep something else under that name."""
    held = beside.get("task")
    if not isinstance(held, dict) or not all(dict.__contains__(held, key) for key in ("channels", "labels")):
        return {}
    return _plain(path, beside, "task", "save a task of plain values")


def _mirror_axes(beside: dict[str, object]) -> tuple[int, ...] | None:
    """Take the axes that nnU-Net's predictor may mirror along; left where they are none of a volume."""
    held = beside.get(_MIRRORING, ())
    axes = () if held is None else held
    if _MIRRORING not in beside or not isinstance(axes, list | tuple):
        return None
    if any(type(axis) is not int or axis not in range(3) for axis in axes) or len(set(axes)) < len(axes):
        return None
    del beside[_MIRRORING]
    return tuple(axes)


def _window(beside: dict[str, object]) -> tuple[float, float] | None:
    held = beside.get("window")
    if not isinstance(held, list | tuple) or len(held) != 2 or not {type(bound) for bound in held} <= {int, float}:
        return None
    low, high = held
    if not -_WIDEST < low < high < _WIDEST:  # of NaN neither is true
        return None
    del beside["window"]
    return float(low), float(high)


def _plain(path: Path, beside: dict[str, object], name: str, remedy: str) -> dict[str, Any]:
    try:
        return dict(json_values(beside.pop(name)))
    except ValueError as error:
        raise refusal(path, f"holds under {name} {error}", remedy) from None


def _copied(path: Path, named: dict[str, Tensor], mapped: MappedFile) -> tuple[dict[str, Tensor], tuple[str, ...]]:
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
        problem = f"makes {claimed} bytes of weights of a smaller file, by using the same bytes again and again"
        raise refusal(path, problem, "call .clone() on the weights before saving them")
    with ThreadPoolExecutor(2) as pool:  # most of the time goes into fresh pages, which two can fill
        copies = dict(zip(distinct, pool.map(mapped.copy, distinct.values()), strict=True))
    state = {name: copies[key][0] for name, key in keys.items()}
    return state, tuple(name for name, key in keys.items() if not copies[key][1])


def _refuse_unusual(path: Path, name: str, tensor: Tensor) -> None:
    dense = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    if not dense:
        problem = f"holds {name} as a {tensor.device.type} tensor of layout {tensor.layout} and type {tensor.dtype}"
        raise refusal(path, problem, "save plain dense weights")
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > stored:
        # A stride of zero can make a few bytes look like terabytes.
        problem = f"claims {tensor.numel()} elements for {name} and stores {stored} bytes"
        raise refusal(path, problem, "call .contiguous() on the weights before saving them")
