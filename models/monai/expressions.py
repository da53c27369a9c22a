"""The few expressions that bundles of MONAI's model zoo write behind a ``$``, taken apart and computed, never run.

They are parsed with `ast`. What may stand in one: references, numbers, strings, lists, ``+ - * / //`` between them,
``a if b else c``, an element of a list or dict, ``len``, ``list``, ``range``, and the names of dtypes and of MONAI's
`CommonKeys`, which are strings here. Anything else is `Unsupported`.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_REFERENCE = re.compile(r"@(\w+(?:(?:::|#)\w+)*)")
_PLACEHOLDER = "__reference_"
_LONGEST = 1000  # characters
_MOST_PARTS = 200  # of an expression: as many calls deep it may go, whatever depth a library has allowed
_LARGEST, _MOST = 1e9, 2000  # of a number; members of a list or characters of a string
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_DTYPE = re.compile(r"(?:torch|np|numpy)\.(float16|float32|float64|float|u?int8|int16|int32|int64|bool)")
_KEYS = {f"{module}CommonKeys.{name.upper()}": name for module in ("", "monai.utils.", "monai.utils.enums.")
         for name in ("image", "label", "pred")}  # fmt: skip


class Unsupported(Exception):  # noqa: N818 - no error yet: who asked knows the key
    """An expression has something that only running it resolves."""


def compute(text: str, value_of: Callable[[str], Any]) -> Any:
    """The value of the expression `text`, without its ``$``; lists and dicts in it are as `value_of` returns them.

    Args:
        value_of: what a reference such as ``a::b`` leads to.

    Raises:
        Unsupported: it holds anything else than what this module lists, or gives too much.
    """
    references: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        references.append(match[1].replace("#", "::"))
        return f"{_PLACEHOLDER}{len(references) - 1}"

    parsed = _parse(_REFERENCE.sub(put_aside, text))
    named = {f"{_PLACEHOLDER}{number}": key for number, key in enumerate(references)}
    return _Reader(lambda name: value_of(named[name]), set(named)).value(parsed)


def painted(text: str) -> tuple[tuple[int, int], ...] | None:
    """The channels and their labels that a ``Lambdad`` paints into a mask, first to last; None for any other function.

    The form is that of MONAI's BraTS bundle, ``lambda x: torch.where(x[[2]] > 0, 4, torch.where(..., 0))``, of which
    the outermost counts most and so is painted last.
    """
    try:
        function = _parse(text.removeprefix("$"))
    except Unsupported:
        return None
    if not (isinstance(function, ast.Lambda) and len(function.args.args) == 1):
        return None
    left, painting = function.body, list[tuple[int, int]]()
    pattern = re.compile(rf"{re.escape(function.args.args[0].arg)}\[\[(\d{{1,3}})\]\] > 0(?:\.0)?")
    while isinstance(left, ast.Call) and ast.unparse(left.func) == "torch.where" and len(left.args) == 3:
        where, label = pattern.fullmatch(ast.unparse(left.args[0])), left.args[1]
        if left.keywords or where is None or not (isinstance(label, ast.Constant) and type(label.value) is int):
            return None
        painting.append((int(where[1]), label.value))
        left = left.args[2]
    nothing = isinstance(left, ast.Constant) and type(left.value) is int and left.value == 0
    return tuple(reversed(painting)) if nothing and painting else None


def _parse(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise Unsupported
    try:
        parsed = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Unsupported from None
    if sum(1 for _ in ast.walk(parsed)) > _MOST_PARTS:
        raise Unsupported
    return parsed


class _Reader:
    def __init__(self, value_of: Callable[[str], Any], references: set[str]) -> None:
        self._value_of = value_of
        self._references = references

    def value(self, node: ast.expr) -> Any:
        """What `node` gives, if it is no larger than anything in a configuration need be."""
        try:
            value = self._computed(node)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError, KeyError, IndexError, RecursionError):
            raise Unsupported from None
        if isinstance(value, int | float) and not abs(value) <= _LARGEST:
            raise Unsupported
        if isinstance(value, str | list | dict) and len(value) > _MOST:
            raise Unsupported
        return value

    def _computed(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return value
            case ast.Name(id=name) if name in self._references:
                return self._value_of(name)
            case ast.List(elts=members) | ast.Tuple(elts=members):
                return [self.value(member) for member in members]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.value(operand)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return self.value(body if self.value(test) else otherwise)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._operated(type(op), self.value(left), self.value(right))
            case ast.Subscript(value=container, slice=at):
                whole: Any = self.value(container)
                index = self.value(at)
                if (isinstance(whole, list) and isinstance(index, int)) or isinstance(whole, dict):
                    return whole[index]
            case ast.Call(func=ast.Name(id="len" | "list" | "range" as name), args=arguments, keywords=[]):
                return self._called(name, [self.value(argument) for argument in arguments])
            case ast.Attribute():
                name = ast.unparse(node)
                dtype = _DTYPE.fullmatch(name)
                if dtype or name in _KEYS:
                    return dtype[1] if dtype else _KEYS[name]
        raise Unsupported

    def _operated(self, op: type[ast.operator], left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        joined = op is ast.Add and isinstance(left, str | list) and type(left) is type(right)
        repeated = op is ast.Mult and isinstance(left, list) and type(right) is int and len(left) * right <= _MOST
        if not (numbers or joined or repeated):
            raise Unsupported
        return _OPERATORS[op](left, right)

    def _called(self, name: str, arguments: list[Any]) -> Any:
        if name == "range":
            numbers = range(*arguments)
            if len(numbers) > _MOST:
                raise Unsupported
            return list(numbers)
        (argument,) = arguments
        if not isinstance(argument, list | dict if name == "len" else list):
            raise Unsupported
        return len(argument) if name == "len" else list(argument)
