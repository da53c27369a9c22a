"""``package.json`` and the files that it lists: written once, and read without trusting any of them.

Nothing of a package is opened before its hash is the listed one, and no file may lie there that is not listed: readers
of networks look for files beside the weights.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from bench.errors import InputError
from models.errors import one_line
from reports.records.package import SCHEMA, PackageRecord
from reports.records.store import RecordError, json_values, record_from_json

FILE = "package.json"
NETWORKS, ARTEFACTS, GOLDEN, PROOF = "networks", "artefacts", "golden", "proof"  # folders in a package
_LARGEST = 16 * 2**20  # bytes of the document
_REMEDY = "copy the package again, or export it anew"


def is_package(folder: Path) -> bool:
    """Whether `folder` says that it is one."""
    return (folder / FILE).is_file()


def write_package(folder: Path, record: PackageRecord) -> PackageRecord:
    """Write the document of the files in `folder`, and return it with the list of these."""
    listed = replace(record, files={name: _sha256(folder / name) for name in sorted(_files(folder))})
    (folder / FILE).write_text(json.dumps(json_values(listed), indent=1) + "\n")
    return listed


def read_package(folder: Path) -> PackageRecord:
    """Read and check a package: its document, and the hash of every file.

    Raises:
        InputError: it is none, or damaged, or not as its document says.
    """
    record = _document(folder)
    listed, there = set(record.files), set(_files(folder)) - {FILE}
    for name in sorted(listed - there):
        raise InputError(f"{folder / name}: not there, and {FILE} lists it; {_REMEDY}")
    for name in sorted(there - listed):
        raise InputError(f"{folder / name}: {FILE} does not list it; take it out, or export the package anew")
    for name, sha256 in record.files.items():
        if _sha256(folder / name) != sha256:
            raise InputError(f"{folder / name}: not the file that {FILE} lists (another SHA-256); {_REMEDY}")
    return record


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file of a package, by its path in it, to be sent.

    Raises:
        InputError: one cannot be read, or is a link.
    """
    try:
        return {name: (folder / name).read_bytes() for name in sorted(_files(folder))}
    except OSError as error:
        _refuse_unreadable(error)


def write_content(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write what `content_of` gave into a new folder."""
    for name, held in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held)


def document_sha256(folder: Path) -> str:
    """Identifies a package with all that it holds, since its document lists the hash of every file."""
    return _sha256(folder / FILE)


def _document(folder: Path) -> PackageRecord:
    path = folder / FILE
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST // 2**20} MiB")
        held: Any = json.loads(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a folder of `bench export`") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no document of a package ({one_line(error)}); {_REMEDY}") from None
    schema = held.get("schema") if isinstance(held, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise InputError(f"{path}: schema {str(schema)[:40]}, while this version reads schema {SCHEMA}; export it anew")
    try:
        record = record_from_json(PackageRecord, held)
    except (RecordError, RecursionError) as error:
        raise InputError(f"{path}: {one_line(error)}; {_REMEDY}") from None
    _refuse_paths(path, record)
    return record


def _refuse_paths(path: Path, record: PackageRecord) -> None:
    """Refuse names that lead out of the package, and those that are used without being listed."""
    for name in record.files:
        if not _is_plain(name) or name == FILE:
            raise InputError(f"{path}: lists {name[:80]!r}, which is no name of a file in the package; {_REMEDY}")
    golden = [name for case in record.golden for name in (*case.images, case.mask)]
    for name in (*record.network.paths, *golden):
        if name not in record.files:
            raise InputError(f"{path}: uses {name[:80]!r} and does not list it; {_REMEDY}")
    if not record.network.paths or len(record.network.paths) != len(record.network.sha256):
        raise InputError(f"{path}: names {len(record.network.paths)} networks and other hashes; {_REMEDY}")


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    clean = bool(parts) and str(PurePosixPath(name)) == name and name.isprintable() and "\\" not in name
    return clean and not name.startswith("/") and ".." not in parts


def _files(folder: Path) -> Iterator[str]:
    """Every file below `folder`, relative to it.

    Raises:
        InputError: one is a link, or something else than a file or folder; or a folder cannot be read.
    """
    for place, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        for name in (*folders, *names):
            path = Path(place) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise InputError(f"{path}: a link or a special file, which no package holds; {_REMEDY}")
        yield from ((Path(place) / name).relative_to(folder).as_posix() for name in names)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        _refuse_unreadable(error)


def _refuse_unreadable(error: OSError) -> NoReturn:
    remedy = _REMEDY
    if isinstance(error, PermissionError):
        remedy = "let the user who runs this read all of the package"
    raise InputError(f"{error.filename}: cannot be read ({error.strerror}); {remedy}") from None
