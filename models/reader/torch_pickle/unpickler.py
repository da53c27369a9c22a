"""Reading what `torch.save` wrote without running anything a file holds.

A pickle is a program. Here it is first walked, opcode by opcode (`verifier`), and refused unless it needs only the
opcodes and names of tensors and plain values; then the standard library's unpickler follows it, to which every name
means an entry of our own `allowlist`. Nothing is imported, and torch.load takes no part.
"""

import pickle
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from models.errors import CheckpointError, one_line, refusal, some
from models.reader.mapped_file import MappedFile
from models.reader.torch_pickle.allowlist import ALLOWLIST, UNUSUAL, Storage, shorten
from models.reader.torch_pickle.placeholders import represented
from models.reader.torch_pickle.verifier import MOST_BYTES, UnsafePickleError, verify
from models.reader.zip_archive import Entry, entries_of

_RESAVE = "do not load it otherwise; where you trust its source, save only network.state_dict() and plain numbers there"
_AGAIN = "copy or download the file again, or save it anew with torch.save"
_CONVERT = (
    "copy the file again, or convert it where it was written: "
    "python -c \"import torch; torch.save(torch.load('OLD', weights_only=True), 'NEW')\""
)
_DEEPEST, _LARGEST = 64, 10**6  # levels, and values, once each is counted in every place where it stands
_LEGACY_START = (0x1950A86A20F9469CFC6C, 1001)  # the magic number, and the version of the protocol

Place = tuple[int, int]  # first byte in the file, and number of bytes
Open = Callable[[str, torch.dtype, int], Storage]  # by key, type and number of bytes


def load_safely(path: Path, zipped: bool) -> tuple[object, str | None, MappedFile]:
    """Read a `torch.save` file, `zipped` since torch 1.6.

    Returns what it holds, the numpy generation that wrote its numbers (``1.x``, ``2.x`` or None), and the file: tensors
    are views of it, whose bytes are read when they are used.

    Raises:
        CheckpointError: the file holds more than tensors and plain values, or is damaged.
    """
    try:
        mapped = MappedFile(path)
        held, names = (_read_zip if zipped else _read_legacy)(path, mapped)
        _refuse_large(held, {}, 0)
    except CheckpointError:
        raise
    except UnsafePickleError as error:
        raise _unsafe(path, error) from None
    except Exception as error:  # a damaged or hostile pickle can raise anything
        kind = "" if isinstance(error, pickle.UnpicklingError | ValueError) else f"{type(error).__name__}: "
        problem = f"is damaged or not a checkpoint ({kind}{one_line(error)})"
        raise refusal(path, problem, _AGAIN if zipped else _CONVERT) from None
    generations = {"1.x": "numpy.core.multiarray.scalar", "2.x": "numpy._core.multiarray.scalar"}
    return held, max((key for key, name in generations.items() if name in names), default=None), mapped


class _Unpickler(pickle.Unpickler):
    """The standard library's, with our names and no others; `storage` opens the bytes of a tensor."""

    def __init__(self, pickled: bytes, storage: Open) -> None:
        super().__init__(BytesIO(pickled), encoding="utf-8")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        return ALLOWLIST[f"{'builtins' if module == '__builtin__' else module}.{name}"]

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), str(), int(count), *view) if view in ([], [None]):
                return self.storage(key, dtype, count * dtype.itemsize)
        raise pickle.UnpicklingError("a reference that is no tensor's storage")


def _read_zip(path: Path, mapped: MappedFile) -> tuple[object, set[str]]:
    entries = {entry.name.partition("/")[2]: entry for entry in entries_of(path)}
    folders = {entry.name.partition("/")[0] for entry in entries.values()}
    if len(folders) > 1:
        raise refusal(path, f"is a checkpoint in several folders ({some(sorted(folders))})", _AGAIN)
    if entries["data.pkl"].size > MOST_BYTES:
        raise UnsafePickleError(f"holds a pickle of {entries['data.pkl'].size} bytes, where {MOST_BYTES} are read")
    order = _bytes_of(path, entries["byteorder"]) if "byteorder" in entries else b"little"
    _check_order(path, order.decode("ascii", "replace"))
    stream = BytesIO(_bytes_of(path, entries["data.pkl"]))
    names = verify(stream, ALLOWLIST)
    if rest := stream.read():
        raise UnsafePickleError(f"holds {len(rest)} bytes behind the end of its pickle")
    places = {name[5:]: (entry.start, entry.size) for name, entry in entries.items() if name.startswith("data/")}
    return _Unpickler(stream.getvalue(), _opener(mapped, places)).load(), names


def _bytes_of(path: Path, entry: Entry) -> bytes:
    with path.open("rb") as file:
        file.seek(entry.start)
        return file.read(min(entry.size, MOST_BYTES))


def _check_order(path: Path, order: str) -> None:
    if order != sys.byteorder:
        raise refusal(
            path, f"was written in {order[:10]}-endian byte order", f"write it on a {sys.byteorder}-endian machine"
        )


def _opener(mapped: MappedFile, places: dict[str, Place]) -> Open:
    def storage(key: str, dtype: torch.dtype, size: int) -> Storage:
        start, stored = places.get(key, (0, -1))
        if not 0 <= size <= stored:
            there = f"and {stored} are there" if stored >= 0 else "and is not there"
            raise pickle.UnpicklingError(f"storage {shorten(key)} claims {shorten(size)} bytes, {there}")
        return Storage(mapped.data[start : start + size], dtype)

    return storage


def _read_legacy(path: Path, mapped: MappedFile) -> tuple[object, set[str]]:
    """Read five pickles (magic, version, system, object, keys of its storages), then the storages themselves."""
    with path.open("rb") as file:
        stream = BytesIO(file.read(MOST_BYTES))
    names: set[str] = set()
    pickles: list[bytes] = []
    for _ in range(5):
        start = stream.tell()
        names |= verify(stream, ALLOWLIST)
        pickles.append(stream.getvalue()[start : stream.tell()])
    claimed: dict[str, torch.dtype] = {}

    def unread(key: str, dtype: torch.dtype, size: int) -> Storage:
        claimed[key] = dtype
        data = torch.UntypedStorage(size, device="meta")  # type: ignore[no-untyped-call]
        return Storage(data, dtype)  # takes no memory, whatever the size

    magic, version, system, _, keys = (_Unpickler(pickled, unread).load() for pickled in pickles)
    if (magic, version) != _LEGACY_START:
        raise pickle.UnpicklingError(f"version {shorten(version)} of the format")
    _check_order(path, "little" if system["little_endian"] else "big")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise pickle.UnpicklingError("keys of storages that are no strings")
    places = _legacy_places(path, stream.tell(), {key: claimed[key] for key in keys})
    return _Unpickler(pickles[3], _opener(mapped, places)).load(), names


def _legacy_places(path: Path, at: int, dtypes: dict[str, torch.dtype]) -> dict[str, Place]:
    """Find the storages, each of which follows its number of elements, 8 bytes."""
    places = {}
    with path.open("rb") as file:
        for key, dtype in dtypes.items():
            file.seek(at)
            count = int.from_bytes(file.read(8).ljust(8, b"\xff"), "little", signed=True)
            places[key] = at + 8, count * dtype.itemsize
            at += 8 + count * dtype.itemsize
            if count < 0 or at > path.stat().st_size:
                raise pickle.UnpicklingError(
                    f"storage {shorten(key)} of {count} elements, which the file does not hold"
                )
    return places


def _unsafe(path: Path, error: UnsafePickleError) -> CheckpointError:
    kinds = [UNUSUAL[name] for name in error.wanted if name in UNUSUAL]
    if kinds and all(name.startswith("torch.") for name in error.wanted):
        return refusal(path, f"holds {kinds[0]} tensors ({some(error.wanted)})", "save plain dense weights")
    return refusal(path, str(error), _RESAVE)


def _refuse_large(value: object, measured: dict[int, tuple[int, int]], level: int) -> tuple[int, int]:
    """Count the values in `value`, each as often as it is met, and its levels.

    Ten lists, each of ten times the next, are 10^10 values to whoever walks through them.
    """
    value = represented(value)
    if not isinstance(value, dict | list | tuple):
        return 1, 0
    if id(value) not in measured:
        inner = [(1, 0)]
        if level <= _DEEPEST:
            members = dict.values(value) if isinstance(value, dict) else value
            inner += [_refuse_large(member, measured, level + 1) for member in members]
        measured[id(value)] = sum(count for count, _ in inner), 1 + max(depth for _, depth in inner)
    count, depth = measured[id(value)]
    if level + depth > _DEEPEST:
        raise UnsafePickleError(f"holds lists or dicts nested more than {_DEEPEST} deep, or within themselves")
    if count > _LARGEST:
        raise UnsafePickleError(f"holds more than {_LARGEST} values")
    return count, depth
