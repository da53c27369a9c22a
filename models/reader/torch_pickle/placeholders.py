"""What takes the place of harmless objects in a pickle, so that the weights beside them can be read.

Training scripts save their settings with the weights: an `argparse.Namespace`, paths, arrays, a loss. None of these
classes is ever imported here. A placeholder keeps, by reference, what the pickle would have handed to the object, and
has no method that does anything with it.
"""

import pickle
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch

_MOST = 40  # arguments: of the objects here paths have most, one for each folder
_LONGEST = 300  # characters of a path that are shown


class Placeholder:
    """An object that was not made.

    Attributes:
        kind: its class, as the pickle names it.
        arguments: what its constructor was to receive.
        state: what was to become its attributes.
    """

    __slots__ = ("arguments", "state")
    kind: ClassVar[str] = ""
    arguments: tuple[object, ...]
    state: object

    def __new__(cls, *arguments: object) -> "Placeholder":
        _refuse_many(arguments)
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state


class _DictPlaceholder(dict[Any, Any]):
    """In the place of subclasses of dict: holds the items, and neither a default factory nor attributes."""

    def __init__(self, *arguments: object) -> None:
        _refuse_many(arguments)

    def __setstate__(self, state: object) -> None:
        pass


class _ListPlaceholder(list[Any]):
    """In the place of what is filled as a list is."""

    def __init__(self, *arguments: object) -> None:
        _refuse_many(arguments)

    def __setstate__(self, state: object) -> None:
        pass


def _refuse_many(arguments: tuple[object, ...]) -> None:
    if len(arguments) > _MOST:
        raise pickle.UnpicklingError(f"an object made of {len(arguments)} arguments")


def represented(value: object) -> object:
    """The plain value that a placeholder represents, where there is one: a path's text, a namespace's attributes."""
    if not isinstance(value, Placeholder):
        return value
    if value.kind in _TEXTS and all(isinstance(part, str) for part in value.arguments):
        return "/".join(str(part)[:_LONGEST].rstrip("/\\") for part in value.arguments)[:_LONGEST] or "/"
    if value.kind in _NAMESPACES and isinstance(value.state, dict):
        return value.state
    return value


def _placeholder_classes(base: type, names: Iterable[str]) -> dict[str, Any]:
    """A class for each name, so that each object says what it represents."""
    bodies = {name: {"__slots__": (), "kind": _KINDS.get(name, name)} for name in names}
    return {name: type(name.rpartition(".")[2], (base,), body) for name, body in bodies.items()}


def _in_module(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


_ARRAYS = ["numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"]  # as numpy 1 and 2 say it
_KINDS = dict.fromkeys(_ARRAYS, "numpy.ndarray")
_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
_TEXTS = [
    *_in_module("pathlib", _PATHS),
    *_in_module("pathlib._local", _PATHS),
    "torch.torch_version.TorchVersion",
    "decimal.Decimal",
]
_NAMESPACES = ["argparse.Namespace", "types.SimpleNamespace"]
_DICTS = [
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "easydict.EasyDict",
    "yacs.config.CfgNode",
    "addict.addict.Dict",
    "munch.Munch",
]
_OBJECTS = [
    *_in_module("datetime", "datetime date time timedelta timezone"),
    # Long, unicode and xrange are Python 2's names, by which protocol 2 calls int, str and range.
    *_in_module("builtins", "dict list tuple str int float bool bytes frozenset slice range long unicode xrange"),
    *_in_module("numpy", "ndarray"),
    *_ARRAYS,
    *_in_module("numpy.random._pickle", "__bit_generator_ctor __generator_ctor __randomstate_ctor"),
    *_in_module("numpy.random._mt19937", "MT19937"),
    *_in_module("numpy.random._pcg64", "PCG64"),
    *_in_module("numpy.random.bit_generator", "SeedSequence __pyx_unpickle_SeedSequence"),
    *_in_module("omegaconf.base", "ContainerMetadata Metadata"),
    *_in_module("omegaconf.dictconfig", "DictConfig"),
    *_in_module("omegaconf.listconfig", "ListConfig"),
    *_in_module("omegaconf.nodes", "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode"),
    *_in_module("typing", "Any"),
    *_in_module("uuid", "UUID"),
    *(f"torch.nn.modules.loss.{name}" for name in torch.nn.modules.loss.__all__),
    *(f"torch.nn.modules.activation.{name}" for name in torch.nn.modules.activation.__all__),
]

PLACEHOLDERS: Mapping[str, Any] = {
    **_placeholder_classes(Placeholder, [*_TEXTS, *_NAMESPACES, *_OBJECTS]),
    **_placeholder_classes(_DictPlaceholder, _DICTS),
    **_placeholder_classes(_ListPlaceholder, ["collections.deque"]),
}
