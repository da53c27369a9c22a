"""What makes the function of the user's network beside their Python files: what it is built of, and data files."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from models.user_code.isolation import INSTALLED

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")  # of an object, another one in each process
_OF_EVERY_MODULE = set(vars(nn.Module()))
_DEEPEST = 6  # values in values
_CODE = {".py", ".pyc", ".so"}  # the importer reads the one or the other, and `user_files` has what it imported
_watched: "list[tuple[Path, set[Path]]]" = []
_hooked: list[bool] = []


def structure_of(network: nn.Module) -> str:
    """The layers as PyTorch prints them, and the plain attributes of each, which the forward may read.

    The same in every process and on every machine: without addresses, absolute paths and values of tensors.
    """
    try:
        printed = repr(network)
    except Exception:  # of the user's own text for a layer anything can come
        printed = ""
    parts = [f"{name} {type(part).__qualname__} {_attributes(part)}" for name, part in network.named_modules()]
    return _ADDRESS.sub("", "\n".join([printed, *parts]))


def _attributes(part: nn.Module) -> str:
    return _plain({name: value for name, value in vars(part).items() if name not in _OF_EVERY_MODULE})


def _plain(value: Any, depth: int = 0) -> str:
    """A value as text; of an object that holds more than plain values its type alone."""
    kind = type(value).__qualname__
    if depth > _DEEPEST or (isinstance(value, str) and value.startswith(("/", "~"))):
        return kind
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    if isinstance(value, FunctionType | BuiltinFunctionType | type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, partial):
        return _plain([value.func, value.args, value.keywords], depth)
    if isinstance(value, list | tuple):
        return f"{kind}[{', '.join(_plain(each, depth + 1) for each in value)}]"
    if isinstance(value, SimpleNamespace) or (is_dataclass(value) and hasattr(value, "__dict__")):
        return kind + _plain(vars(value), depth)
    if isinstance(value, dict):
        pairs = (f"{_plain(key, depth + 1)}: {_plain(each, depth + 1)}" for key, each in value.items())
        return f"{kind}{{{', '.join(pairs)}}}"
    return kind


@contextmanager
def files_read(root: Path) -> Iterator[set[Path]]:
    """Gather the data files below `root` that Python opens for reading inside the context.

    Left out are code, installed packages, and hidden folders, where tools keep what is theirs. A library that opens
    files without Python is not seen.
    """
    if not _hooked:
        sys.addaudithook(_on_event)  # for as long as the process lives: Python has no way to take one off again
        _hooked.append(True)
    watched = (root.resolve(), set[Path]())
    _watched.append(watched)
    try:
        yield watched[1]
    finally:
        _watched.remove(watched)


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _watched:
        return
    place, _, flags = args
    if not isinstance(place, str | bytes) or not isinstance(flags, int) or flags & os.O_ACCMODE != os.O_RDONLY:
        return
    path = Path(os.path.abspath(os.fsdecode(place)))  # noqa: PTH100  (without asking the disk for links)
    for root, files in _watched:
        if path.is_relative_to(root) and _is_data(path.relative_to(root)):
            files.add(path)


def _is_data(path: Path) -> bool:
    """Whether a file, by its path below the root, is the user's data."""
    folders = path.parts[:-1]
    hidden = any(folder.startswith((".", "__")) for folder in folders)
    return not hidden and path.suffix not in _CODE and INSTALLED.isdisjoint(folders)
