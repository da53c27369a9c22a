"""MONAI bundles: a folder with ``configs/`` and ``models/``, whose configuration is read as data."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from models.errors import refusal
from models.monai.config import Config

INSTALL = 'in the checkout of voxbench: pip install ".[monai]"'
_NAMES = ("inference", "train")  # of two configurations the first says how the network is used
_ENDINGS = (".json", ".yaml", ".yml")
_LARGEST = 256 * 1024  # bytes of a configuration; the largest in MONAI's model zoo has some 30 kB


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        root: its folder.
        weights: the file with the state dict.
    """

    root: Path
    weights: Path

    @classmethod
    def of(cls, path: Path) -> "Bundle | None":
        """The bundle at `path`, a folder or the file of weights in one; None where there is none."""
        if path.is_dir():
            configs = path / "configs"
            named = (configs / f"{name}{ending}" for name in ("metadata", *_NAMES) for ending in _ENDINGS)
            return cls(path, path / "models" / "model.pt") if any(file.exists() for file in named) else None
        root = path.resolve().parent.parent
        # Projects of any kind have a configs folder beside a models folder; the metadata is what only bundles have.
        inside = path.resolve().parent.name == "models" and (root / "configs" / "metadata.json").exists()
        return cls(root, path) if inside else None

    def config(self) -> Config:
        """Its configuration, nothing of it resolved yet.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        found = self._file(*_NAMES)
        if found is None:
            remedy = "give the whole bundle, or name the code of the network with --arch FILE.py:FACTORY"
            raise refusal(self.root, "is a MONAI bundle without configs/inference.json or train.json", remedy)
        metadata = self._file("metadata")
        values = _read(found) | {"bundle_root": str(self.root)}
        return Config(self.root, found, values | {"_meta_": {} if metadata is None else _read(metadata)})

    def _file(self, *names: str) -> Path | None:
        files = (self.root / "configs" / f"{name}{ending}" for name in names for ending in _ENDINGS)
        return next((file for file in files if file.exists()), None)


def weights_file(path: Path) -> Path:
    """The file with the weights: `path` itself, or the one in the bundle at `path`.

    Raises:
        CheckpointError: the bundle has none.
    """
    bundle = Bundle.of(path) if path.is_dir() else None
    if bundle is None:
        return path
    if not bundle.weights.exists():
        program = bundle.weights.with_suffix(".ts")
        remedy = f"give {program} and --trust the same" if program.exists() else "download the whole bundle"
        raise refusal(path, "is a MONAI bundle without models/model.pt", remedy)
    return bundle.weights


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise refusal(file, "is not a regular file", "give the bundle as it was published")
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
    except OSError as error:
        raise refusal(file, f"cannot be read ({error.strerror})", "check its permissions") from None
    if len(content) > _LARGEST:
        raise refusal(file, f"is larger than {_LARGEST // 1024} KiB", "a bundle's configuration is a few kB: check it")
    try:
        values = json.loads(content) if file.suffix == ".json" else _from_yaml(file, content)
    except (ValueError, RecursionError) as error:
        found = f"is no {file.suffix[1:]} that can be read ({' '.join(str(error).split())[:200]})"
        raise refusal(file, found, "download the bundle again") from None
    if not isinstance(values, dict):
        raise refusal(file, f"holds a {type(values).__name__} at its top, not keys", "download the bundle again")
    return values


def _from_yaml(file: Path, content: bytes) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise refusal(file, "needs the package PyYAML", INSTALL) from None
    # Merge keys (<<) can grow without bound; not taken apart, they are an error.
    loader = type("Loader", (yaml.SafeLoader,), {"flatten_mapping": lambda *_: None})
    try:
        return yaml.load(content, loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
