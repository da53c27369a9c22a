"""The network on the device and in the type that a backend runs it in, or a copy that a backend may take apart.

A deep copy is a convenience: there is none of a network that keeps a lock, a generator or a computed weight, and where
hooks hold on to the first network a copy is another one.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engines.base import EngineError
from models.errors import one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

_REGISTERED = ("_parameters", "_buffers", "_modules")
_DEEPEST = 4  # lists in lists
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")

Slot = tuple[Any, Any, Any]  # a dict or list, a key in it, and the tensor there


@contextmanager
def placed(module: "nn.Module", device: str, dtype: "torch.dtype | None" = None) -> "Iterator[nn.Module]":
    """`module` itself, on `device` and its floating-point numbers as `dtype`; on leaving it is as before.

    Tensors that it keeps as plain attributes, which PyTorch leaves where they are, go along.
    """
    import torch

    weights = [(parameter, parameter.data) for parameter in module.parameters()]
    buffers = [slot for part in module.modules() for slot in _slots(part._buffers)]
    plain = [slot for part in module.modules() for slot in _plain(part)]
    try:
        module.to(device, dtype)
        with torch.no_grad():
            for holder, key, tensor in plain:
                holder[key] = tensor.to(device, dtype if tensor.is_floating_point() else None)
        yield module
    finally:
        for parameter, data in weights:
            parameter.data = data
        for holder, key, tensor in (*buffers, *plain):
            holder[key] = tensor


def copied(module: "nn.Module") -> "nn.Module":
    """A deep copy of `module`.

    Raises:
        EngineError: there is none, or it would not be the same network.
    """
    for name, part in module.named_modules():
        if any(getattr(part, hooks, None) for hooks in _HOOKS):
            raise EngineError(f"its layer {name or 'at the top'} has hooks, so that it is not taken apart")
    try:
        return copy.deepcopy(module)
    except Exception as error:  # whatever the user's objects raise
        raise EngineError(f"it cannot be copied, so that it is not taken apart: {one_line(error)}") from error


def _plain(part: "nn.Module") -> "Iterator[Slot]":
    """The tensors that `part` keeps as attributes, or in lists and dicts."""
    for name, value in list(vars(part).items()):
        if name not in _REGISTERED:
            yield from _slot(vars(part), name, value)


def _slots(holder: Any, depth: int = 0) -> "Iterator[Slot]":
    for key, value in list(enumerate(holder) if isinstance(holder, list) else holder.items()):
        yield from _slot(holder, key, value, depth)


def _slot(holder: Any, key: Any, value: Any, depth: int = 0) -> "Iterator[Slot]":
    import torch

    if isinstance(value, torch.Tensor):
        yield holder, key, value
    elif type(value) in (list, dict) and depth < _DEEPEST:
        yield from _slots(value, depth + 1)
