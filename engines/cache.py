"""Built artefacts on disk, each under a key of everything it depends on."""

import errno
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.base import EngineError, Target
from engines.host import cpu
from engines.host.cuda import driver
from engines.probe import versions

if TYPE_CHECKING:
    from models.model import Model

FORMAT = 1  # raise it when a builder in this package changes what it writes
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artefact:
    """A folder of built files, and whether it was there already."""

    folder: Path
    cached: bool


def key_of(model: "Model", target: Target, distributions: tuple[str, ...], **settings: object) -> dict[str, Any]:
    """Everything that an artefact depends on: weights, input, device, versions of `distributions` and `settings`."""
    return {
        "format": FORMAT,
        "weights": model.sha256,
        "architecture": [model.architecture, model.width, model.code],
        "shape": list(target.input_shape),
        "outputs": [len(model.labels), model.subtypes],
        "device": device_identity(target),
        "versions": versions(*distributions),
        **settings,
    }


def place_of(root: Path, kind: str, key: Mapping[str, Any]) -> Path:
    """The folder of what is built under `key`."""
    return root / f"{kind}-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()}"


def artefact(root: Path, kind: str, key: dict[str, Any], build: Callable[[Path], None]) -> Artefact:
    """Return the artefact of `key`, built by ``build(folder)`` unless a whole one is there.

    It is built in a folder beside its place and renamed, so that a killed build leaves nothing that looks
    whole; one whose files do not hash to what was written is built again.

    Raises:
        EngineError: the cache has no room for it.
    """
    place = place_of(root, kind, key)
    if _whole(place):
        return Artefact(place, cached=True)
    root.mkdir(parents=True, exist_ok=True)
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
    """The CPU's model, or the GPU's name and the driver's version."""
    if not target.on_cuda:
        return f"{platform.machine()} {cpu.processor()}"
    import torch

    installed = driver()
    version = installed.version if installed else "unknown"
    return f"{torch.cuda.get_device_name(target.device)}, driver {version}, CUDA {torch.version.cuda}"
