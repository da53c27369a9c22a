"""Tables beside the cases that give each its class: CSV as spreadsheets and scripts write it, and JSON."""

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.data.formats import ending_of, stem_of
from bench.errors import InputError
from models.errors import some
from models.task import normal

Names = Sequence[str] | None  # of the classes, in their order; None where they are not known, nor asked for

_NAME_COLUMNS = (
    "names", "name", "case", "case_id", "caseid", "id", "identifier", "image", "file", "filename", "patient_id",
)  # fmt: skip
_CLASS_COLUMNS = ("subtype", "class", "label", "cls")
_DELIMITERS = (",", ";", "\t", "|")
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_MOST_BYTES = 16 * 2**20  # of a table; what is larger is none


@dataclass(frozen=True)
class Entry:
    """A name in a table and the class it is given; `where` is the file and line, `value` None where that is empty."""

    name: str
    value: int | None
    where: str


@dataclass(frozen=True, kw_only=True)
class ClassTables:
    """What the tables of a folder say of its cases.

    Attributes:
        classes: by case. sources: of each of them, file and line.
        files: that are tables. unread: spreadsheets in a format that is not read.
        others: names in the tables that are no case.
    """

    classes: Mapping[str, int]
    sources: Mapping[str, str]
    files: tuple[Path, ...] = ()
    unread: tuple[Path, ...] = ()
    others: tuple[str, ...] = ()

    def similar(self, cases: Iterable[str]) -> tuple[str, str] | None:
        """A name in the tables that differs from a case by leading zeros or capitals, as spreadsheets change them."""
        plain = {_plain(spelling): name for name in self.others for spelling in _spellings(name)}
        return next(((plain[_plain(case)], case) for case in cases if _plain(case) in plain), None)


def read_class_tables(root: Path, cases: Collection[str], names: Names = ()) -> ClassTables:
    """Read the tables that lie in `root`: files with a column of names and one of classes, ``{name: class}`` in JSON.

    A name is that of a case, or of its image or mask; the whole name counts first, so that a case may be called
    ``a_0000``. Rows without a class are as if they were not there. A class is a whole number from 0, or one of `names`;
    where these are None, a row with a name has no class.

    Raises:
        InputError: a class that is neither, or two classes of one case; the line names the file.
    """
    tables = _read(sorted(root.iterdir()), cases, names)
    unread = tuple(sorted(path for path in root.iterdir() if path.suffix.lower() in (".xlsx", ".xls", ".ods")))
    return replace(tables, unread=unread)


def read_class_table(path: Path, cases: Collection[str], names: Names = ()) -> ClassTables:
    """Read a single table, likewise.

    Raises:
        InputError: likewise.
        OSError: it cannot be read.
    """
    return _read([path], cases, names)


def _read(paths: Iterable[Path], cases: Collection[str], names: Names) -> ClassTables:
    classes, sources, others = dict[str, int](), dict[str, str](), list[str]()
    tables = {path: table for path in paths if (table := list(_entries(path, cases, names)))}
    for entry in (entry for table in tables.values() for entry in table):
        name = next((name for name in _spellings(entry.name) if name in cases), None)
        if name is None:
            others.append(entry.name)
        elif entry.value is not None:
            if classes.setdefault(name, entry.value) != entry.value:
                raise InputError(
                    f"{entry.where}: gives {name} class {entry.value}, and {sources[name]} class {classes[name]}; "
                    "correct the one that is wrong"
                )
            sources.setdefault(name, entry.where)
    return ClassTables(classes=classes, sources=sources, files=tuple(tables), others=tuple(others))


def _plain(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold())


def _spellings(text: str) -> Iterator[str]:
    """What a name may stand for: itself, a file of that name, an image of the first channel."""
    name = text.strip().replace("\\", "/").rpartition("/")[2]
    yield name
    yield (name := stem_of(name))
    yield re.sub(r"_0000$", "", name)


def _entries(path: Path, cases: Collection[str], names: Names) -> Iterator[Entry]:
    """Of a file; none where it is no table."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".txt", ".json") or path.name.startswith(".") or not path.is_file():
        return
    if path.stat().st_size <= _MOST_BYTES:
        text = _text(path.read_bytes())
        yield from _of_json(path, text, cases, names) if kind == ".json" else _of_csv(path, text, names)


def _text(content: bytes) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # as older spreadsheets write it in Western Europe


def _of_csv(path: Path, text: str, names: Names) -> Iterator[Entry]:
    text = re.sub(r"^sep=.", "", text)  # a line of Excel's; the line is left, so that the numbers of lines are right
    first = next((line for line in text.splitlines() if line.strip(_blanks())), "")
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            columns = _columns(next(csv.reader([first], delimiter=delimiter), []))
        except csv.Error:  # a field longer than any name
            continue
        if columns is None:
            continue
        rows = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
        try:
            next(rows)  # the head
            cells = [(number, [*row, *[""] * (1 + max(columns) - len(row))]) for number, row in rows]
            entries = [(number, row[columns[0]].strip(), row[columns[1]].strip()) for number, row in cells]
            if _are_images(value for _, _, value in entries):
                return
            for number, name, value in entries:
                where = f"{path}: line {number}"
                point = "." if delimiter == "," else ","
                yield Entry(name, class_of(value, name, where, names, point), where)
        except csv.Error as error:
            raise InputError(f"{path}: not a table of classes ({error}); export it again") from None
        return


def _blanks() -> str:
    return " \t\r\n" + "".join(_DELIMITERS)


def _columns(head: Sequence[str]) -> tuple[int, int] | None:
    """Which column holds the names, and which the classes."""
    names = [re.sub(r"[\s-]+", "_", cell.strip().casefold()) for cell in head]
    name = next((names.index(known) for known in _NAME_COLUMNS if known in names), None)
    value = next((names.index(known) for known in _CLASS_COLUMNS if known in names), None)
    return None if name is None or value is None else (name, value)


def _of_json(path: Path, text: str, cases: Collection[str], names: Names) -> Iterator[Entry]:
    """``{"name": class}``, or a list of objects with a name and a class; anything else is no table."""
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return  # not ours to judge
    if isinstance(held, dict) and all(isinstance(value, int | float | str | None) for value in held.values()):
        pairs = [(str(name), value) for name, value in held.items()]
        if not any(spelling in cases for name, _ in pairs for spelling in _spellings(name)):
            return  # settings of something else
    elif isinstance(held, list) and held and all(isinstance(row, dict) for row in held):
        columns = _columns(list(held[0]))
        if columns is None:
            return
        name, value = (list(held[0])[column] for column in columns)
        pairs = [(str(row.get(name, "")), row.get(value)) for row in held]
        if any(isinstance(value, list | dict) for _, value in pairs) or _are_images(str(value) for _, value in pairs):
            return
    else:
        return
    for name, value in pairs:
        yield Entry(name, class_of(value, name, str(path), names), str(path))


def _are_images(values: Iterable[str]) -> bool:
    """Whether "labels" are masks: then it is a list of files, and no table of classes."""
    return any(ending_of(value) for value in values)


def class_of(value: Any, name: str, where: str, names: Names, point: str = ".") -> int | None:
    """The class of the case `name` by its number, or else by its own name; None of an empty `value`.

    Args:
        where: it was found. point: in numbers.

    Raises:
        InputError: it is neither; the line begins with `where`.
    """
    if value is None or str(value).strip() == "":
        return None
    written = str(value)
    try:
        number = float(written.replace(point, "."))
    except ValueError:
        return _named(written, name, where, names)
    if number >= 0 and number.is_integer():
        return int(number)
    raise InputError(f"{where}: class {written[:40]!r} of {name} is no whole number from 0; correct it")


def _named(written: str, name: str, where: str, names: Names) -> int | None:
    if names is None:
        return None
    known = {normal(each): number for number, each in enumerate(names)}
    if normal(written) in known:
        return known[normal(written)]
    listed = f", nor one of the task's classes: {some(list(names), 12)}" if names else ""
    raise InputError(f"{where}: class {written[:40]!r} of {name} is no whole number from 0{listed}; correct it")
