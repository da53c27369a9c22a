"""Reading what `torch.save` wrote without running anything a file holds."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from models.container import TORCH_ZIP
from models.disassembly import LOOKED_AT, globals_in
from models.errors import CheckpointError, refusal, some

_RESAVE = "do not load it otherwise; where you trust its source, save only network.state_dict() and plain numbers there"
_AGAIN = "copy or download the file again, or save it anew with torch.save"
_CONVERT = (
    "convert it where it was written: "
    "python -c \"import torch; torch.save(torch.load('OLD', weights_only=True), 'NEW')\""
)
_SCALAR_FORMATS = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip


class _ScalarType:
    """Stands in for `numpy.dtype` in a pickle: knows plain numbers, and nothing else can be built from it."""

    def __init__(self, code: str, *_flags: object) -> None:
        if code not in _SCALAR_FORMATS:
            raise pickle.UnpicklingError(f"a numpy value of type {str(code)[:20]}, where only plain numbers are read")
        self.format = _SCALAR_FORMATS[code]
        self.order = "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"  # (version, byte order, ...); "|" is one byte wide


def _scalar(generation: str, seen: set[str], kind: _ScalarType, data: bytes) -> float:
    """Stand in for numpy's `scalar(dtype, bytes)`, noting which numpy the pickle names."""
    seen.add(generation)
    return struct.unpack(kind.order + kind.format, data)[0]  # type: ignore[no-any-return]


@contextmanager
def _only(allowed: list[Callable[..., object] | tuple[Callable[..., object], str]]) -> Iterator[None]:
    """Allow these globals and no others, so that what other libraries have registered opens no door here."""
    registered = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(registered)


def load_safely(path: Path, container: str) -> tuple[object, str | None]:
    """Read a `torch.save` file; return what it holds and the numpy generation that wrote its numbers.

    Tensors of a zip container are memory-mapped: their bytes are read when they are used. The generation
    is ``1.x``, ``2.x`` or None. The allowlist names numpy's scalar constructor as both generations spell it,
    and its dtype; each leads to a stand-in that yields a plain Python number, so numpy itself is never called.

    Raises:
        CheckpointError: the file holds more than tensors and plain values, or is damaged.
    """
    refuse_old_torch(path, torch.__version__)
    seen: set[str] = set()
    allowed: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
        (_ScalarType, "numpy.dtype"),
        (partial(_scalar, "1.x", seen), "numpy.core.multiarray.scalar"),
        (partial(_scalar, "2.x", seen), "numpy._core.multiarray.scalar"),
    ]
    try:
        with _only(allowed):
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=container == TORCH_ZIP)
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise _explained(path, container, error) from None
    return held, max(seen, default=None)


def refuse_old_torch(path: Path, version: str) -> None:
    """Refuse to read with a torch whose safe reader has known holes (CVE-2025-32434, CVE-2026-24747)."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (2, 10):
        found = f"is not read with torch {version}, whose safe loader can be made to run code (CVE-2026-24747)"
        raise refusal(path, found, "install torch 2.10 or later")


def _explained(path: Path, container: str, error: Exception) -> CheckpointError:
    """Turn torch's many-line message into ours, naming what the file wanted to import."""
    message = str(error)
    refused = re.search(r"GLOBAL (\S+) (?:was not|whose module)", message)
    if refused:
        name = refused[1] if "." in refused[1] else f"builtins.{refused[1]}"  # torch drops that prefix
        return refusal(path, f"holds code or objects, not only tensors: it wants {name}", _RESAVE)
    if "Unsupported operand" in message:
        wanted = [name for name in _wanted_globals(path, container) if not name.startswith(("torch.", "collections."))]
        extra = f" and wants {some(wanted)}" if wanted else ""
        return refusal(path, f"uses pickle instructions outside the safe subset{extra}", _RESAVE)
    lines = [line for line in message.splitlines() if line.strip() and not line.startswith("Check the documentation")]
    # Of an unpickling error torch puts the cause last, behind its advice; of any other the cause stands first.
    reason = (lines[-1] if isinstance(error, pickle.UnpicklingError) else lines[0]) if lines else ""
    found = f"is damaged or not a checkpoint ({type(error).__name__}: {reason[:200]})"
    return refusal(path, found, _AGAIN if container == TORCH_ZIP else _CONVERT)


def _wanted_globals(path: Path, container: str) -> list[str]:
    try:
        if container != TORCH_ZIP:
            with path.open("rb") as file:
                return globals_in(file.read(LOOKED_AT), pickles=4)  # magic, version, system, then the object
        with zipfile.ZipFile(path) as archive:
            name = next(entry for entry in archive.namelist() if entry.partition("/")[2] == "data.pkl")
            with archive.open(name) as entry:
                return globals_in(entry.read(LOOKED_AT))
    except (OSError, zipfile.BadZipFile, StopIteration):
        return []
