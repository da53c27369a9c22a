"""Records as files: JSON out, written atomically, and JSON in, checked field by field."""

import json
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from reports.records.record import SCHEMA, RunRecord, VariantRecord, VariantSettings

RUN_FILE, VARIANTS_FOLDER = "run.json", "variants"

Record = TypeVar("Record", RunRecord, VariantRecord)


class RecordError(Exception):
    """A file is not a record of this version. The message is one line: which file, what was found, what to do."""


@dataclass(frozen=True)
class Run:
    """A run read back: its record and those of its variants, in the order of ``settings.variants``."""

    record: RunRecord
    variants: tuple[VariantRecord, ...]
    folder: Path | None = None

    def variant(self, name: str) -> VariantRecord:
        """The record of one variant of the run."""
        return next(variant for variant in self.variants if variant.name == name)


def variant_path(folder: Path, name: str) -> Path:
    """Where the record of variant `name` lies in the run directory `folder`."""
    return folder / VARIANTS_FOLDER / f"{name}.json"


def to_json(record: RunRecord | VariantRecord) -> dict[str, Any]:
    """The record as plain dicts, lists and scalars; what is not a finite number becomes None."""
    document: dict[str, Any] = _plain({"schema": SCHEMA} | vars(record))
    return document


def write_json(path: Path, record: RunRecord | VariantRecord) -> None:
    """Write the record so that `path` always holds a whole document, the old one or the new one.

    The folder must exist. Costs about 2 ms for 300 samples, as it is called after each of them.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(_text({"schema": SCHEMA} | vars(record)), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def run_from_json(document: Mapping[str, Any]) -> RunRecord:
    """Build a run's record from what `to_json` gave.

    Raises:
        RecordError: another schema, or a field that is missing, unknown or of the wrong type.
    """
    _check_schema(document)
    record: RunRecord = _build(RunRecord, document, "")
    return record


def variant_from_json(document: Mapping[str, Any]) -> VariantRecord:
    """Build a variant's record from what `to_json` gave.

    Raises:
        RecordError: another schema, or a field that is missing, unknown or of the wrong type.
    """
    _check_schema(document)
    record: VariantRecord = _build(VariantRecord, {k: v for k, v in document.items() if k != "schema"}, "")
    return record


def read_run(folder: Path) -> Run:
    """Read a run directory. A variant without a file has not been measured yet and is pending.

    Raises:
        RecordError: there is no run here, or a file of it is damaged or of another version.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise RecordError(f"{folder}: no {RUN_FILE} here; name a folder that `bench run` wrote")
    record = _read(path, run_from_json)
    return Run(
        record, tuple(_read_variant(folder, name, own) for name, own in record.settings.variants.items()), folder
    )


def _read_variant(folder: Path, name: str, settings: VariantSettings) -> VariantRecord:
    path = variant_path(folder, name)
    if not path.is_file():
        return VariantRecord(name=name, settings=settings)
    record = _read(path, variant_from_json)
    if record.name != name:
        raise RecordError(f"{path}: holds the record of {record.name!r}; put the file of {name!r} back, or run again")
    return record


def _read(path: Path, build: Callable[[Mapping[str, Any]], Record]) -> Record:
    remedy = "restore the file, or measure again with `bench run`"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:  # not JSON, or not even text
        raise RecordError(f"{path}: not a JSON document ({error}); {remedy}") from error
    if not isinstance(document, dict):
        raise RecordError(f"{path}: holds a {type(document).__name__}, not a record; {remedy}")
    try:
        return build(document)
    except RecordError as error:
        raise RecordError(f"{path}: {error}; {remedy}") from error


def _check_schema(document: Mapping[str, Any]) -> None:
    found = document.get("schema")
    if found is None:
        raise RecordError("no `schema` number, so not a document of voxbench")
    if found != SCHEMA or isinstance(found, bool):
        raise RecordError(f"schema {found!r}, while this version reads schema {SCHEMA}")


# --- out -------------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unfold(value: Any) -> Any:
    """What the C encoder asks about: a record or a read-only mapping."""
    if is_dataclass(value):
        return vars(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a record holds a {type(value).__name__}, which JSON has no form for")


_encode = json.JSONEncoder(default=_unfold, allow_nan=False, ensure_ascii=False).encode


def _text(document: Mapping[str, Any]) -> str:
    """A line for each field, and for each sample, score or case: quick to write, and fit for grep and diff."""
    try:
        return "{\n" + ",\n".join(_field(name, value) for name, value in document.items()) + "\n}\n"
    except ValueError:  # a value that is not finite; rare, so the slow way is taken only now
        return _text(_plain(document))


def _field(name: str, value: Any) -> str:
    if isinstance(value, (tuple, list)) and value and (is_dataclass(value[0]) or isinstance(value[0], dict)):
        return f'  "{name}": [\n    ' + ",\n    ".join(map(_encode, value)) + "\n  ]"
    return f'  "{name}": {_encode(value)}'


# --- in --------------------------------------------------------------------------------------------------------------


@cache
def _hints(record: type) -> dict[str, Any]:
    return typing.get_type_hints(record)


def _build(record: type, document: Any, where: str) -> Any:
    if not isinstance(document, dict):
        raise RecordError(f"`{where}` is {_short(document)}, not an object")
    prefix = f"{where}." if where else ""
    known = {f.name: f for f in fields(record)}
    for name in document:
        if name not in known:
            raise RecordError(f"unknown field `{prefix}{name}`")
    for name, f in known.items():
        if name not in document and f.default is MISSING and f.default_factory is MISSING:
            raise RecordError(f"`{prefix}{name}` is missing")
    hints = _hints(record)
    return record(**{name: _convert(hints[name], value, prefix + name) for name, value in document.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """The JSON `value` as the type `hint` says, one of those that occur in `record`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(arguments[0], value, where)
    if is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(value):
            return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    elif origin is Mapping and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    raise RecordError(f"`{where}` is {_short(value)}, which is not what belongs there")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
