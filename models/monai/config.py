"""The configuration of a MONAI bundle as plain values.

MONAI's own ConfigParser makes an object of whatever a ``_target_`` names and evaluates whatever follows a ``$``: that
is running what the file holds. Here references (``@key::inner`` and ``%key``, also with ``#`` for ``::``) are followed
between plain values, and the rest is refused by its key.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import CheckpointError, refusal

SEPARATOR = "::"
NO_ARGUMENTS = ("_target_", "_desc_", "_mode_", "_requires_", "_disabled_")
_REFERENCE = re.compile(r"[@%]\w*(?:::\w*)*")
_LONGEST_CHAIN = 32  # references that lead to references
_DEEPEST = 16
_MOST = 2000  # values that one key may resolve to: a list of references to lists of references grows without bound


@dataclass(frozen=True)
class Component:
    """What a ``_target_`` would make.

    Attributes:
        key: where it stands.
        target: the class's name, short or with its module.
        arguments: of the class, nothing in them resolved yet.
    """

    key: str
    target: str
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The class's name without its module."""
        return self.target.rpartition(".")[2]


@dataclass(frozen=True)
class Config:
    """A bundle's configuration.

    Attributes:
        root: the bundle's folder.
        file: the configuration's file, for messages.
        values: as the file holds them; the metadata under ``_meta_``.
    """

    root: Path
    file: Path
    values: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Whether there is something under `key`."""
        try:
            self._value_at(key)
        except KeyError:
            return False
        return True

    def resolved(self, key: str, value: Any) -> Any:
        """`value`, which stands under `key`, with references resolved.

        Raises:
            CheckpointError: it holds an expression, a component, a reference that leads nowhere or round in a circle,
                or too much.
        """
        return self._resolved(key, value, iter(range(_MOST)), 0)

    def component(self, key: str, value: Any = None) -> Component | None:
        """The component under `key`, or that `value` is; None where it is something else.

        Raises:
            CheckpointError: it is an expression, or its ``_target_`` is no name.
        """
        key, value = self.followed(key, self._value_at(key) if value is None else value)
        if not isinstance(value, dict) or "_target_" not in value:
            return None
        target = value["_target_"]
        if not isinstance(target, str) or target.startswith(("$", "@", "%")):
            raise self.refused(f"its {key}::_target_ is no class but {_shorten(target)}")
        return Component(key, target, {str(name): inner for name, inner in value.items() if name not in NO_ARGUMENTS})

    def followed(self, key: str, value: Any) -> tuple[str, Any]:
        """Follow references from `value` until something else comes; return it and the key where it stands.

        Raises:
            CheckpointError: it is an expression, or references lead nowhere or round in a circle.
        """
        for _ in range(_LONGEST_CHAIN):
            if not isinstance(value, str):
                return key, value
            if value.startswith("$"):
                raise self.refused(f"its {key} is an expression, {_shorten(value)}, which only running it resolves")
            normal = value.replace("#", SEPARATOR)
            if not _REFERENCE.fullmatch(normal):
                return key, value
            try:
                value = self._value_at(normal[1:])
            except KeyError:
                raise self.refused(f"its {key} refers to {_shorten(value)}, which is not there") from None
            key = normal[1:]
        raise self.refused(f"its {key} refers to itself")

    def refused(self, problem: str) -> CheckpointError:
        """A refusal of something that only running the configuration could resolve."""
        remedy = f"where you trust its source, --trust {self.root}, or name the network's code with --arch"
        return refusal(self.file, problem, f"{remedy} FILE.py:FACTORY")

    def _value_at(self, key: str) -> Any:
        value: Any = self.values
        for part in key.split(SEPARATOR):
            if isinstance(value, list) and part.isdecimal() and len(part) < 6 and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, Mapping) and part in value:
                value = value[part]
            else:
                raise KeyError(key)
        return value

    def _resolved(self, key: str, value: Any, left: Iterator[int], depth: int) -> Any:
        key, value = self.followed(key, value)
        if next(left, None) is None or depth > _DEEPEST:
            raise self.refused(f"its {key.partition(SEPARATOR)[0]} is too large or too deep")
        if isinstance(value, list):
            return [self._resolved(f"{key}::{i}", inner, left, depth + 1) for i, inner in enumerate(value)]
        if isinstance(value, dict):
            if "_target_" in value:
                raise self.refused(
                    f"its {key} is to be made by {_shorten(value['_target_'])}, which only running it does"
                )
            return {
                str(name): self._resolved(f"{key}::{name}", inner, left, depth + 1) for name, inner in value.items()
            }
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise self.refused(f"its {key} is a {type(value).__name__}")


def _shorten(value: object) -> str:
    return repr(value if isinstance(value, str | int | float) else type(value).__name__)[:120]
