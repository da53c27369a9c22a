"""Records as files: JSON out and JSON in, checked field by field.

``run.json`` and ``variants/NAME.json`` are always whole, the old one or the new one. The samples of a variant are lines
of ``samples/NAME.jsonl``, appended as they come; a last line that was cut off is left out when read. A file that lost
its content, as in a power cut, counts as one that is not there. Names of files that are not UTF-8 are kept as JSON's
escapes of the bytes, ``\\udc80`` to ``\\udcff``.
"""

import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from reports.records.record import AGREEMENT, COMPLETE, SCHEMA, RunRecord, Sample, VariantRecord

RUN_FILE, VARIANTS_FOLDER, SAMPLES_FOLDER = "run.json", "variants", "samples"

Record = TypeVar("Record")

_REMEDY = "restore the file, or measure again with `bench run`"


class RecordError(Exception):
    """A file is not a record of this version. The message is one line: which file, what was found, what to do."""


@dataclass(frozen=True)
class Run:
    """A run read back: its record and those of its variants, in the order of ``settings.variants``.

    Attributes:
        notes: what was left out in reading, one line each.
        sha256: of its ``run.json``; empty for one that was not read from a folder.
    """

    record: RunRecord
    variants: tuple[VariantRecord, ...]
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def name(self) -> str:
        """Where it lies; what it is called where it lies nowhere."""
        return str(self.folder or self.record.id)

    def variant(self, name: str) -> VariantRecord:
        """The record of one variant of the run."""
        return next(variant for variant in self.variants if variant.name == name)


def variant_path(folder: Path, name: str) -> Path:
    """Where the record of variant `name` lies in the run directory `folder`."""
    return folder / VARIANTS_FOLDER / f"{name}.json"


def samples_path(folder: Path, name: str) -> Path:
    """Where the samples of variant `name` lie in the run directory `folder`."""
    return folder / SAMPLES_FOLDER / f"{name}.jsonl"


# --- out -------------------------------------------------------------------------------------------------------------


def write_json(path: Path, record: RunRecord | VariantRecord) -> None:
    """Write the record, without samples, so that `path` always holds a whole document. The folder must exist."""
    lines = (_field(name, value) for name, value in _document(record).items())
    _write(path, "{\n" + ",\n".join(lines) + "\n}\n")


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write all samples of a variant, in the place of those that are there. The folder must exist."""
    _write(path, _lines(samples))


def append_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples behind those that are there, all or none."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(_lines(samples))
    except OSError:
        with suppress(OSError):
            os.truncate(path, size)
        raise


def write_run(folder: Path, run: Run) -> None:
    """Write all files of a run's records; folders that are missing are made."""
    for name in (VARIANTS_FOLDER, SAMPLES_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN_FILE, run.record)
    for variant in run.variants:
        write_json(variant_path(folder, variant.name), variant)
        write_samples(samples_path(folder, variant.name), variant.samples)


def json_values(value: Any) -> Any:
    """The value in dicts, lists and scalars; None in the place of what is not a finite number."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _document(record: RunRecord | VariantRecord) -> dict[str, Any]:
    return {"schema": SCHEMA} | {name: value for name, value in vars(record).items() if name != "samples"}


def _lines(samples: Iterable[Sample]) -> str:
    return "".join(f"{_encode(sample)}\n" for sample in samples)


def _field(name: str, value: Any) -> str:
    """A line for each field, and for each score or case: fit for grep and diff."""
    if isinstance(value, (tuple, list)) and value and (is_dataclass(value[0]) or isinstance(value[0], dict)):
        return f'  "{name}": [\n    ' + ",\n    ".join(map(_encode, value)) + "\n  ]"
    return f'  "{name}": {_encode(value)}'


def _encode(value: Any) -> str:
    try:
        return _encode_finite(value)
    except ValueError:  # a number that is not finite; rare, so the slow way is taken only now
        return _encode_finite(json_values(value))


def _unfold(value: Any) -> Any:
    """What the C encoder asks about: a record or a read-only mapping."""
    if is_dataclass(value):
        return vars(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a record holds a {type(value).__name__}, which JSON has no form for")


_encode_finite = json.JSONEncoder(default=_unfold, allow_nan=False, ensure_ascii=False).encode


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name without its content
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


# --- in --------------------------------------------------------------------------------------------------------------


def read_run(folder: Path) -> Run:
    """Read a run directory. In a run that is not complete, a variant without a file has not been measured yet and is
    pending.

    Of a run that is not complete, a file without content is left out with a note: to resume the run makes it anew.

    Raises:
        RecordError: there is no run here, or a file of it is damaged or of another version.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise RecordError(f"{folder}: no {RUN_FILE} here; name a folder that `bench run` wrote")
    record = _parse(str(path), _read_text(path), run_from_json)
    variants, notes = [], []
    for name, settings in record.settings.variants.items():
        variant, note = _read_variant(folder, name, record.status == COMPLETE)
        _check_scores(record, variant, variant_path(folder, name))
        variants.append(variant or VariantRecord(name=name, settings=settings))
        notes += [note] if note else []
    return Run(record, tuple(variants), folder, tuple(notes), hashlib.sha256(path.read_bytes()).hexdigest())


def run_from_json(document: Mapping[str, Any]) -> RunRecord:
    """Build a run's record from what `write_json` wrote.

    Raises:
        RecordError: another schema, or a field that is missing, unknown or of the wrong type.
    """
    _check_schema(document)
    record: RunRecord = _build(RunRecord, document, "")
    return record


def variant_from_json(document: Mapping[str, Any]) -> VariantRecord:
    """Build a variant's record, without samples, from what `write_json` wrote.

    Raises:
        RecordError: another schema, or a field that is missing, unknown or of the wrong type.
    """
    _check_schema(document)
    record: VariantRecord = _build(VariantRecord, {k: v for k, v in document.items() if k != "schema"}, "")
    return record


def record_from_json(kind: type[Record], document: Mapping[str, Any]) -> Record:
    """Build a record of this `kind` from what `json_values` gave.

    Raises:
        RecordError: a field that is missing, unknown or of the wrong type.
    """
    record: Record = _build(kind, document, "")
    return record


def _read_variant(folder: Path, name: str, complete: bool) -> tuple[VariantRecord | None, str | None]:
    """A variant of a run that is `complete` or not, and a note on what was left out."""
    path = variant_path(folder, name)
    if not path.is_file():
        if complete:
            raise RecordError(f"{path}: not there, though the run is complete; copy the whole folder, or run again")
        return None, None
    text = _read_text(path)
    if not (text or complete):
        return None, f"{path}: lost its content and is left out, with its samples"
    record = _parse(str(path), text, variant_from_json)
    if record.name != name:
        raise RecordError(f"{path}: holds the record of {record.name!r}; put the file of {name!r} back, or run again")
    samples, note = _read_samples(samples_path(folder, name))
    return replace(record, samples=samples), note


def _check_scores(record: RunRecord, variant: VariantRecord | None, path: Path) -> None:
    """Refuse a score that is missing although the case has a mask: it would be left out of the mean.

    The baseline has given every case one.
    """
    by_agreement = record.settings.accuracy == AGREEMENT
    masks = {case.name for case in record.cases if by_agreement or case.mask is not None}
    for score in variant.scores if variant else ():
        for name, structure in record.task.structures.items():
            of_structure = score.structures.get(name)
            if score.case in masks and structure.predicted and (of_structure is None or of_structure.dsc is None):
                raise RecordError(f"{path}: {score.case} has a mask, and no score of its {name}; {_REMEDY}")


def _read_samples(path: Path) -> tuple[tuple[Sample, ...], str | None]:
    """The samples, and a note where the last line was cut off, as by a crash while it was written."""
    if not path.is_file():
        return (), None
    *lines, rest = _read_bytes(path).split(b"\n")
    note = f"{path}: the last line was cut off and is left out" if rest else None
    samples = (_parse(f"{path}: line {n}", _decode(path, line), _sample) for n, line in enumerate(lines, 1))
    return tuple(samples), note


def _sample(document: Mapping[str, Any]) -> Sample:
    sample: Sample = _build(Sample, document, "")
    return sample


def _read_text(path: Path) -> str:
    return _decode(path, _read_bytes(path))


def _read_bytes(path: Path) -> bytes:
    """The content, up to where a power cut has left zero bytes."""
    try:
        return path.read_bytes().partition(b"\0")[0]
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except ValueError as error:
        raise RecordError(f"{path}: not a JSON document ({error}); {_REMEDY}") from error


def _parse(where: str, text: str, build: Callable[[Mapping[str, Any]], Record]) -> Record:
    if not text:
        raise RecordError(f"{where}: is empty, as after a power cut or on a full disk; {_REMEDY}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: not a JSON document ({error}); {_REMEDY}") from error
    if not isinstance(document, dict):
        raise RecordError(f"{where}: holds a {type(document).__name__}, not a record; {_REMEDY}")
    try:
        return build(document)
    except RecordError as error:
        raise RecordError(f"{where}: {error}; {_REMEDY}") from error


def _check_schema(document: Mapping[str, Any]) -> None:
    schema = document.get("schema")
    if schema is None:
        raise RecordError("no `schema` number, so not a document of voxbench")
    if schema != SCHEMA or isinstance(schema, bool):
        raise RecordError(f"schema {schema!r}, while this version reads schema {SCHEMA}")


@cache
def _types(record: type) -> dict[str, Any]:
    """Of each field by its name."""
    hints = typing.get_type_hints(record)
    return {each.name: hints[each.name] for each in fields(record)}


@cache
def _required(record: type) -> tuple[str, ...]:
    """The fields without a default, in their order."""
    return tuple(f.name for f in fields(record) if f.default is MISSING and f.default_factory is MISSING)


def _build(record: type, document: Any, where: str) -> Any:
    if not isinstance(document, dict):
        raise RecordError(f"`{where}` is {_short(document)}, not an object")
    prefix = f"{where}." if where else ""
    kinds = _types(record)
    for name in document:
        if name not in kinds:
            raise RecordError(f"unknown field `{prefix}{name}`")
    for name in _required(record):
        if name not in document:
            raise RecordError(f"`{prefix}{name}` is missing")
    values = {name: _convert(kinds[name], value, prefix + name) for name, value in document.items()}
    try:
        return record(**values)
    except ValueError as error:
        raise RecordError(f"`{where}` holds {error}" if where else f"it holds {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    """The JSON `value` as the type `hint` says, one of those that occur in `record`."""
    if hint is Any or (hint in (int, str, bool) and type(value) is hint):
        return value
    if hint is float and type(value) in (float, int) and math.isfinite(value):
        return float(value)
    origin, arguments = get_origin(hint), get_args(hint)
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
    raise RecordError(f"`{where}` is {_short(value)}, which is not what belongs there")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
