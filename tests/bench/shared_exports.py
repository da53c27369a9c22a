"""ONNX graphs that forked workers export once for all tests: each test has a cache of its own, and an export is long.

A graph is kept under the same key as in the cache of engines, and copied to where the worker would have written it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.cache import key_of
from engines.onnx import export

_export = export._export


def share(folder: Path) -> None:
    """In this process and its forks."""
    export._export = _remembering(folder, _export)


def _remembering(folder: Path, write: Callable[..., None]) -> Callable[..., None]:
    def call(model: Any, target: Any, half: bool, path: Path) -> None:
        key = json.dumps([half, key_of(model, target, ())], sort_keys=True)
        kept = folder / hashlib.sha256(key.encode()).hexdigest()
        if kept.exists():
            shutil.copyfile(kept, path)
            return
        write(model, target, half, path)
        folder.mkdir(exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(path, unfinished)
        unfinished.rename(kept)

    return call
