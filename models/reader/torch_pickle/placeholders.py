"""What takes the place of harmless objects in a pickle, so that the weights beside them can be read.

Training scripts save their settings with the weights: an `argparse.Namespace`, paths, arrays, a loss. None of these
classes is ever imported here. A stand-in keeps, by reference, what the pickle would have given to the object, and has
no method that does anything with it.
"""

import pickle
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch

_MOST = 40  # arguments: of the objects here paths have most, one for each folder
_LONGEST = 300  # characters of a path that are shown


class StandIn:
    """An object that was not made.

    Attributes:
        kind: its class, as the pickle names it.
        arguments: what its constructor was to be given.
        state: what was to become its attributes.
    """

    __slots__ = ("arguments", "state")
    kind: ClassVar[str] = ""
    arguments: tuple[object, ...]
    state: object

    def __new__(cls, *arguments: object) -> "StandIn":
        _refuse_many(arguments)
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Items(dict[Any, Any]):
    """Stands in for subclasses of dict: holds the items, and neither a default factory nor attributes."""

    def __init__(self, *arguments: object) -> None:
        _refuse_many(arguments)

    def __setstate__(self, state: object) -> None:
        pass


class _Sequence(list[Any]):
    """Stands in for what is filled as a list is."""

    def __init__(self, *arguments: object) -> None:
        _refuse_many(arguments)

    def __setstate__(self, state: object) -> None:
        pass


def _refuse_many(arguments: tuple[object, ...]) -> None:
    if len(arguments) > _MOST:
        raise pickle.UnpicklingError(f"an object made of {len(arguments)} arguments")


def stood_for(value: object) -> object:
    """The plain value that a stand-in stands for, where there is one: a path's text, the attributes of a namespace."""
    if not isinstance(value, StandIn):
        return value
    if value.kind in _TEXTS and all(isinstance(part, str) for part in value.arguments):
        return "/".join(str(part)[:_LONGEST].rstrip("/\\") for part in value.arguments)[:_LONGEST] or "/"
    if value.kind in _NAMESPACES and isinstance(value.state, dict):
        return value.state
    return value


def _each(base: type, names: Iterable[str]) -> dict[str, Any]:
    """A class for each name, so that each object tells what it stands for."""
    bodies = {name: {"__slots__": (), "kind": _KINDS.get(name, name)} for name in names}
    return {name: type(name.rpartition(".")[2], (base,), body) for name, body in bodies.items()}


def _under(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


_ARRAYS = ["numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"]  # as numpy 1 and 2 say it
_KINDS = dict.fromkeys(_ARRAYS, "numpy.ndarray")
_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
_TEXTS = [
    *_under("pathlib", _PATHS),
    *_under("pathlib._local", _PATHS),
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
    *_under("datetime", "datetime date time timedelta timezone"),
    # Long, unicode and xrange are Python 2's names, by which protocol 2 calls int, str and range.
    *_under("builtins", "dict list tuple str int float bool bytes frozenset slice range long unicode xrange"),
    *_under("numpy", "ndarray"),
    *_ARRAYS,
    *_under("numpy.random._pickle", "__bit_generator_ctor __generator_ctor __randomstate_ctor"),
    *_under("numpy.random._mt19937", "MT19937"),
    *_under("numpy.random._pcg64", "PCG64"),
    *_under("numpy.random.bit_generator", "SeedSequence __pyx_unpickle_SeedSequence"),
    *_under("omegaconf.base", "ContainerMetadata Metadata"),
    *_under("omegaconf.dictconfig", "DictConfig"),
    *_under("omegaconf.listconfig", "ListConfig"),
    *_under("omegaconf.nodes", "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode"),
    *_under("typing", "Any"),
    *_under("uuid", "UUID"),
    *(f"torch.nn.modules.loss.{name}" for name in torch.nn.modules.loss.__all__),
    *(f"torch.nn.modules.activation.{name}" for name in torch.nn.modules.activation.__all__),
]

STAND_INS: Mapping[str, Any] = {
    **_each(StandIn, [*_TEXTS, *_NAMESPACES, *_OBJECTS]),
    **_each(_Items, _DICTS),
    **_each(_Sequence, ["collections.deque"]),
}
