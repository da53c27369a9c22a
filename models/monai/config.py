"""The configuration of a MONAI bundle as plain values.

MONAI's own ConfigParser makes an object of whatever a ``_target_`` names and evaluates whatever follows a ``$``: that
is running what the file holds. Here references (``@key::inner`` and ``%key``, also with ``#`` for ``::``) are followed
between plain values, the few expressions of `models.monai.expressions` are computed, and the rest is refused by its
key.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import CheckpointError, refusal
from models.monai import expressions

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
        disabled: what stands under ``_disabled_``, likewise.
    """

    key: str
    target: str
    arguments: Mapping[str, Any]
    disabled: Any = False

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
            CheckpointError: it holds an expression that is not computed here, a component, a reference that leads
                nowhere or round in a circle, or too much.
        """
        return self._resolved(key, value, iter(range(_MOST)), 0)

    def component(self, key: str, value: Any = None) -> Component | None:
        """The component under `key`, or that `value` is; None where it is something else.

        Raises:
            CheckpointError: it is an expression that is not computed here, or its ``_target_`` is no name.
        """
        key, value = self.followed(key, self._value_at(key) if value is None else value)
        if not isinstance(value, dict) or "_target_" not in value:
            return None
        target = value["_target_"]
        if not isinstance(target, str) or target.startswith(("$", "@", "%")):
            raise self.refused(f"its {key}::_target_ is no class but {_shorten(target)}")
        arguments = {str(name): inner for name, inner in value.items() if name not in NO_ARGUMENTS}
        return Component(key, target, arguments, value.get("_disabled_", False))

    def followed(self, key: str, value: Any) -> tuple[str, Any]:
        """Follow references from `value`, and compute expressions, until something else comes.

        Returns:
            It, nothing inside it resolved, and the key where it stands.

        Raises:
            CheckpointError: an expression is not computed here, or references lead nowhere or round in a circle.
        """
        return self._followed(key, value, iter(range(_MOST)), 0)

    def _followed(self, key: str, value: Any, left: Iterator[int], depth: int) -> tuple[str, Any]:
        for _ in range(_LONGEST_CHAIN):
            if next(left, None) is None or depth > _DEEPEST:
                raise self.refused(f"its {key.partition(SEPARATOR)[0]} is too large or too deep")
            if not isinstance(value, str):
                return key, value
            if value.startswith("$"):
                return key, self._computed(key, value, left, depth)
            normal = value.replace("#", SEPARATOR)
            if not _REFERENCE.fullmatch(normal):
                return key, value
            key, value = normal[1:], self._referred(key, normal[1:])
        raise self.refused(f"its {key} refers to itself")

    def _referred(self, key: str, to: str) -> Any:
        try:
            return self._value_at(to)
        except KeyError:
            raise self.refused(f"its {key} refers to {_shorten(f'@{to}')}, which is not there") from None

    def _computed(self, key: str, text: str, left: Iterator[int], depth: int) -> Any:
        def value_of(to: str) -> Any:
            return self._followed(to, self._referred(key, to), left, depth + 1)[1]

        try:
            return expressions.compute(text[1:], value_of)
        except expressions.Unsupported:
            raise self.refused(
                f"its {key} is an expression, {_shorten(text)}, which only running it resolves"
            ) from None

    def refused(self, problem: str) -> CheckpointError:
        """A refusal of something that only running the configuration could resolve."""
        trust = f"where you trust its source, --trust {shlex.quote(str(self.root))}"
        return refusal(self.file, problem, f"{trust}, or name the network's code with --arch FILE.py:FACTORY")

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
        key, value = self._followed(key, value, left, depth)
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
