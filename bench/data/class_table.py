"""Classes of cases, from the tables beside their folders: CSV as people and Excel write it, and JSON."""

import codecs
import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from bench.errors import InputError

_NAME_COLUMNS = (
    "names", "name", "case", "case_id", "caseid", "id", "identifier", "image", "file", "filename", "patient_id",
)  # fmt: skip
_CLASS_COLUMNS = ("subtype", "class", "label", "cls")
_DELIMITERS = ",;\t|"  # Excel writes the second in most of Europe


def read_classes(root: Path) -> dict[str, int]:
    """Classes by identifier from the tables in `root`; see `class_of`. A row without a class gives none.

    A table is a CSV file with a column of names and one of classes, or a JSON file with an object of numbers by name or
    a list of rows. Other files are no tables.

    Raises:
        InputError: a class is no whole number, or a case has two.
    """
    table: dict[str, int] = {}
    places: dict[str, Path] = {}
    for path in sorted(root.glob("*.[cCtT][sS][vV]")) + sorted(root.glob("*.json")):
        for text, value in _json_rows(path) if path.suffix == ".json" else _csv_rows(path):
            name = _identifier(text)
            if not value.strip():
                continue
            subtype = _whole(value)
            if subtype is None or not name:
                raise InputError(f"{path}: class {value!r} of case {name!r}; expected names and whole numbers from 0")
            if table.setdefault(name, subtype) != subtype:
                other = "" if places[name] == path else f" in {places[name]}"
                raise InputError(
                    f"{path}: class {subtype} of {name}, which has class {table[name]}{other}; correct one"
                )
            places.setdefault(name, path)
    return table


def class_of(name: str, table: Mapping[str, int], names: Collection[str]) -> int | None:
    """The class of a case in a table, where it may stand by its identifier or by the name of its image.

    `names` are those of all cases, one of which may be the other's with ``_0000`` behind it.
    """
    image = f"{name}_0000"
    return table.get(name, None if image in names else table.get(image))


def _identifier(text: str) -> str:
    """Without folders and ending."""
    return re.sub(r"\.nii(\.gz)?$", "", PureWindowsPath(text.strip()).name)


def _whole(text: str) -> int | None:
    number = re.fullmatch(r"([+-]?\d+)([.,]0*)?", text.strip())
    return int(number[1]) if number else None


def _csv_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Name and class of each row; nothing of a file without such columns."""
    lines = re.split(r"\r\n|\n|\r", _decoded(path))
    if lines[0].lower().startswith("sep="):  # a line of Excel's
        del lines[0]
    for delimiter in _DELIMITERS:
        try:
            yield from _named_columns(csv.DictReader(lines, delimiter=delimiter, restval=""))
        except csv.Error as error:
            raise InputError(f"{path}: not a table of classes ({error}); save it as CSV again") from None


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # Excel's CSV on Windows


def _json_rows(path: Path) -> Iterator[tuple[str, str]]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # not JSON, no text, or nested without end
        return
    if isinstance(document, dict) and all(_is_number(value) for value in document.values()):
        yield from ((name, _text(value)) for name, value in document.items())
    elif isinstance(document, list) and all(isinstance(row, dict) for row in document):
        yield from _named_columns({key: _text(value) for key, value in row.items()} for row in document)


def _is_number(value: Any) -> bool:
    return value is None or (not isinstance(value, bool) and _whole(str(value)) is not None)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _named_columns(rows: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for row in rows:
        columns = {re.sub(r"[\s-]+", "_", str(column).strip().lower()): column for column in row if column}
        name = next((columns[c] for c in _NAME_COLUMNS if c in columns), None)
        value = next((columns[c] for c in _CLASS_COLUMNS if c in columns), None)
        if name is not None and value is not None:
            yield row[name], row[value]
