"""Plain values out of a file: dicts, lists, strings, numbers, and nothing that has code of its own."""

import json
from pathlib import Path
from typing import Any

from models.errors import one_line, refusal

_DEEPEST = 24
_MOST = 1_000_000  # values; the longest dataset.json list tens of thousands of cases
_LARGEST = 32 * 2**20  # bytes of a JSON file
_KINDS = (str, int, float, bool, type(None))


def json_values(value: object) -> Any:
    """Copy `value`; whatever in it is no dict, list, tuple, string, number, bool or None is left out.

    Raises:
        ValueError: it is nested too deeply, holds itself, or holds too much.
    """
    return _Copier().copy(value, 0)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is too large, damaged, or holds something else.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST // 2**20} MB")
        held = json_values(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise refusal(path, f"cannot be read as JSON ({one_line(error)})", "copy it again") from None
    if not isinstance(held, dict):
        raise refusal(path, f"holds a {type(held).__name__} where an object is expected", "copy it again")
    return held


class _Copier:
    def __init__(self) -> None:
        self._count = 0

    def copy(self, value: object, depth: int) -> Any:
        self._count += 1
        if depth > _DEEPEST or self._count > _MOST:
            raise ValueError(f"more than {_DEEPEST} levels or {_MOST:,} values")
        if isinstance(value, dict):
            return {str(key): self.copy(inner, depth + 1) for key, inner in dict.items(value) if _is_json(inner)}
        if isinstance(value, list | tuple):
            return [self.copy(inner, depth + 1) for inner in value if _is_json(inner)]
        return value


def _is_json(value: object) -> bool:
    return type(value) in _KINDS or isinstance(value, dict | list | tuple)
