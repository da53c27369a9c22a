"""Built artefacts on disk, each under a key of everything it depends on.

Those of an exported package lie in a folder of their own and are never built there.
"""

import errno
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from engines.base import EngineError, Target
from engines.host import cpu
from engines.host.cuda import driver
from engines.probe import versions

if TYPE_CHECKING:
    from models.model import Model

FORMAT = 2  # raise it when a builder in this package changes what it writes
PORTABLE = ("onnx-fp32", "onnx-fp16", "onnx-int8", "openvino-int8", "ort-int8")
"""Kinds that are data for a runtime on any machine; whatever else is built is code, or for one device."""
CHOICE = "fused-choice"
DATA = (*PORTABLE, CHOICE)
"""Kinds that hold no code; a choice of kernels is for one device all the same."""

_MANIFEST = "manifest.json"
# Parts of a key that a portable artefact does not depend on; the precision of what is not INT8 is given when it is
# compiled, by what the processor has, though it was built by what its own had.
_OF_MACHINE = ("device", "versions", "hint")
_outermost: ContextVar[bool] = ContextVar("outermost", default=True)  # False while something is built
_asked: list[Path] = []


@dataclass(frozen=True)
class Artefact:
    """A folder of built files, and whether it was there already."""

    folder: Path
    cached: bool


def key_of(model: "Model", target: Target, distributions: tuple[str, ...], **settings: object) -> dict[str, Any]:
    """Everything that an artefact depends on: weights, input, device, `settings`, and versions.

    Those are of `distributions`, and of the packages that the network's function comes from.
    """
    return {
        "format": FORMAT,
        "weights": model.sha256,
        "architecture": [model.architecture, model.width, model.code],
        "shape": list(target.input_shape),
        "outputs": [len(model.labels), model.subtypes],
        "device": device_identity(target),
        "versions": versions(*distributions, *model.packages),
        **settings,
    }


def place_of(root: Path, kind: str, key: Mapping[str, Any]) -> Path:
    """The folder of what is built under `key`."""
    return root / f"{kind}-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()}"


def kind_of(name: str) -> str:
    """The kind of an artefact, by the name of its folder."""
    return name.rpartition("-")[0].rpartition("/")[2]


def artefact(target: Target, kind: str, key: dict[str, Any], build: Callable[[Path], None]) -> Artefact:
    """Return the artefact of `key`, built by ``build(folder)`` unless a whole one is there.

    It is built in a folder beside its place and renamed, so that a killed build leaves nothing that looks
    whole; one whose files do not hash to what was written is built again.

    Raises:
        EngineError: the cache has no room for it; or a package holds it for another machine, and it cannot be built
            here.
    """
    outermost = _outermost.set(False)
    try:
        built = _prebuilt(target, kind, key) or _cached(target.cache, kind, key, build)
    except ImportError as error:
        if target.prebuilt is None:
            raise
        raise EngineError(
            f"the package holds no {kind} for this machine and its versions, and to build one needs {error.name}, "
            f"which is not installed; pip install {error.name}"
        ) from None
    finally:
        _outermost.reset(outermost)
    if _outermost.get():
        _asked.append(built.folder)
    return built


def asked() -> tuple[Path, ...]:
    """The artefacts that engines of this process were opened with, but for those that only builds of others took."""
    return tuple(dict.fromkeys(_asked))


def _prebuilt(target: Target, kind: str, key: Mapping[str, Any]) -> Artefact | None:
    """That of the package; None where none of it is for this machine, and it is to be built from the weights.

    Raises:
        EngineError: there is one for another machine, and the training cases that it was made with are not at hand.
    """
    if target.prebuilt is None:
        return None
    there = [(folder, _key_in(folder)) for folder in sorted(target.prebuilt.glob(f"{kind}-*"))]
    for folder, held in there:
        if not _differing(kind, key, held) and _whole(folder):
            return Artefact(folder, cached=True)
    if there and key.get("calibration") is not None:
        differing = ", ".join(f"{name} {there[0][1].get(name)}" for name in _differing(kind, key, there[0][1]))
        raise EngineError(
            f"the package holds {kind} for another machine or setting ({differing}), and its INT8 ranges come from "
            "training cases, which it does not hold; export it on a machine like this one"
        )
    return None


def _differing(kind: str, key: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    """Parts of two keys that differ, as far as an artefact of this kind depends on them."""
    apart = _OF_MACHINE if kind in PORTABLE else ()
    names = dict.fromkeys((*key, *held))
    return [name for name in names if name not in apart and key.get(name) != held.get(name)]


def _key_in(folder: Path) -> Mapping[str, Any]:
    try:
        held = json.loads((folder / _MANIFEST).read_text())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return held if isinstance(held, dict) else {}


def _cached(root: Path, kind: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Artefact:
    place = place_of(root, kind, key)
    if _whole(place):
        return Artefact(place, cached=True)
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f".{place.name}.lock")  # workers that build side by side take the same parts
    try:
        with lock:
            if _whole(place):
                return Artefact(place, cached=True)
            return _built(root, kind, key, place, build)
    finally:  # who waits for it already may build the same beside who comes later, which costs time alone
        Path(lock.lock_file).unlink(missing_ok=True)


def _built(root: Path, kind: str, key: Mapping[str, Any], place: Path, build: Callable[[Path], None]) -> Artefact:
    work = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=root))
    try:
        build(work)
        manifest = {"key": key, "files": {str(path.relative_to(work)): _sha256(path) for path in _files(work)}}
        (work / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        _put(work, place)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        remedy = "make room, or set VOXBENCH_CACHE to another folder"
        raise EngineError(f"{root}: the cache has no room for what was built ({error.strerror}); {remedy}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Artefact(place, cached=False)


def _put(work: Path, place: Path) -> None:
    if place.exists() and not _whole(place):
        shutil.rmtree(place)
    try:
        work.rename(place)
    except OSError:
        if not _whole(place):  # else another process built the same meanwhile
            raise


def _whole(place: Path) -> bool:
    try:
        files = json.loads((place / _MANIFEST).read_text())["files"]
        return bool(files) and all(_sha256(place / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}-", dir=path.parent, delete=False) as unfinished:
        unfinished.write(data)
    Path(unfinished.name).replace(path)


def device_identity(target: Target) -> str:
    """The CPU's model and instruction sets, of which one name may have several; or the GPU's name and driver."""
    if not target.on_cuda:
        return " ".join([platform.machine(), cpu.processor(), *cpu.instruction_sets()])
    import torch

    installed = driver()
    version = installed.version if installed else "unknown"
    return f"{torch.cuda.get_device_name(target.device)}, driver {version}, CUDA {torch.version.cuda}"
