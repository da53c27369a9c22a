"""ONNX graphs that forked workers export once for all tests: each test has a cache of its own, and exports are slow."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.base import Target
from engines.cache import artefact, key_of
from engines.onnx import export

if TYPE_CHECKING:
    from models.model import Model


def share(folder: Path) -> None:
    """Have this process and its forks take what they export from a cache in `folder`, and leave it there."""
    write = export._export

    def copied(model: "Model", target: Target, half: bool, path: Path) -> None:
        key = key_of(model, target, (), half=half)
        built = artefact(
            replace(target, cache=folder, prebuilt=None), "exported", key,
            lambda place: write(model, target, half, place / path.name),
        )  # fmt: skip
        shutil.copyfile(built.folder / path.name, path)

    export._export = copied
