"""The entries of a zip archive, where every reader of zip files would find the same ones."""

import struct
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from models.errors import refusal, some

LARGEST_DIRECTORY = 4 * 2**20  # bytes; a name and its offsets take about 100
LARGEST_RATIO = 20  # of what it unpacks to, over the file; code in a TorchScript archive packs to a quarter
_AGAIN = "copy or download the file again; if it stays so, do not use it"
_LOCAL = struct.Struct("<4s5H3I2H")  # an entry's own header: APPNOTE.TXT 4.3.7
_TAIL = 98  # bytes of the three records that may end an archive: 56 and 20 of zip64, then 22
_DESCRIPTOR, _ENCRYPTED = 8, 1  # flags: sizes stand behind the data; the data is encrypted


@dataclass(frozen=True)
class Entry:
    """A file in the archive: `size` bytes from `start`, as they lie there; `packed` if they are compressed."""

    name: str
    start: int
    size: int
    packed: bool


def entries_of(path: Path) -> list[Entry]:
    """List the files in a zip archive; nothing is unpacked.

    The directory at its end and the header before each entry say the same, no two entries share a name or a byte,
    and no name leads out of the folder that it is unpacked into.

    Raises:
        CheckpointError: the archive is damaged, too large, or made to mislead.
    """
    _check_tail(path)
    try:
        with zipfile.ZipFile(path) as archive:
            listed, end = archive.infolist(), archive.start_dir
    except Exception:  # whatever a hostile directory makes zipfile raise
        raise refusal(path, "is a zip archive cut short or damaged", _AGAIN) from None
    unpacked, size = sum(info.file_size for info in listed), path.stat().st_size
    if unpacked > LARGEST_RATIO * size:
        raise refusal(path, f"is a zip archive of {size} bytes that unpacks to {unpacked}", "do not use it")
    _check_names(path, listed)
    listed.sort(key=lambda info: info.header_offset)
    headers = [info.header_offset for info in listed]
    if headers[:1] != [0]:
        raise refusal(path, "is a zip archive with bytes before its first entry, or with none", _AGAIN)
    with path.open("rb") as file:
        entries = [_entry(path, file, info) for info in listed]
    for entry, following in zip(entries, [*headers[1:], end], strict=True):
        if entry.start + entry.size > following:
            raise refusal(path, f"is a zip archive whose entries overlap ({some([entry.name])})", _AGAIN)
    return [entry for entry in entries if not entry.name.endswith("/")]


def _check_tail(path: Path) -> None:
    """Refuse what zipfile would search for, or would need gigabytes for: it reads the whole directory at once."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        tail = file.read(_TAIL).rjust(_TAIL, b"\x00")
    if tail[-22:-18] != b"PK\x05\x06" or tail[-2:] != b"\x00\x00":
        raise refusal(path, "is a zip archive cut short or damaged, or has bytes behind its end", _AGAIN)
    (size,) = struct.unpack_from("<I", tail, _TAIL - 22 + 12)
    if tail[-42:-38] == b"PK\x06\x07":
        (size,) = struct.unpack_from("<Q", tail, 40)
    if size > LARGEST_DIRECTORY:
        problem = f"is a zip archive with a directory of {size} bytes, where at most {LARGEST_DIRECTORY} are read"
        raise refusal(path, problem, _AGAIN)


def _check_names(path: Path, listed: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in listed]
    wrong = [name for name in names if not _is_plain(name)]
    if wrong:
        raise refusal(path, f"is a zip archive with names that are no plain paths ({some(wrong)})", "do not use it")
    twice = [name for name, following in pairwise(sorted(names)) if name == following]
    if twice:
        raise refusal(path, f"is a zip archive with two entries of one name ({some(twice)})", "do not use it")


def _is_plain(name: str) -> bool:
    parts = name.removesuffix("/").split("/")
    return name.isprintable() and "\\" not in name and name[1:2] != ":" and not {"", ".."} & set(parts)


def _entry(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> Entry:
    """Read an entry's own header, and refuse it where the directory says otherwise."""
    file.seek(info.header_offset)
    head = file.read(_LOCAL.size).ljust(_LOCAL.size, b"\x00")
    mark, _, flags, method, _, _, _, packed, size, name_length, extra_length = _LOCAL.unpack(head)
    name = file.read(name_length).decode("utf-8" if flags & 0x800 else "cp437", "replace")
    sizes_follow = flags & _DESCRIPTOR or 0xFFFFFFFF in (packed, size)  # behind the data, or in zip64's extra field
    in_header = (name, method, packed, size)
    in_directory = (info.orig_filename, info.compress_type, info.compress_size, info.file_size)
    alike = in_header == in_directory or (sizes_follow and in_header[:2] == in_directory[:2])
    stored = info.compress_type == zipfile.ZIP_STORED
    if mark != b"PK\x03\x04" or not alike or (stored and info.compress_size != info.file_size):
        problem = f"is a zip archive that tells two things about one entry ({some([info.filename])})"
        raise refusal(path, problem, "do not use it")
    if (flags | info.flag_bits) & _ENCRYPTED:
        raise refusal(path, f"is an encrypted zip archive ({some([info.filename])})", "unpack it and pack it anew")
    return Entry(
        info.filename, info.header_offset + _LOCAL.size + name_length + extra_length, info.compress_size, not stored
    )
