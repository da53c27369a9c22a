"""Reads the configuration of a MONAI bundle, a folder with ``configs/`` and ``models/``, as data."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from models.errors import install, one_line, refusal
from models.monai.config import Config
from models.reader.source import CONFIGURATIONS, METADATA, config_file

_LARGEST = 256 * 1024  # bytes of a configuration; the largest in MONAI's model zoo has some 30 kB


def read_config(bundle: Path) -> Config:
    """Read the configuration in the folder `bundle`, nothing of it resolved yet.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    file, metadata = config_file(bundle, *CONFIGURATIONS), config_file(bundle, METADATA)
    if file is None:
        remedy = "give the whole bundle, or name the code of the network with --arch FILE.py:FACTORY"
        raise refusal(bundle, "is a MONAI bundle without configs/inference.json or train.json", remedy)
    values = _read(file) | {"bundle_root": str(bundle)}
    return Config(bundle, file, values | {"_meta_": {} if metadata is None else _read(metadata)})


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
        problem = f"is no {file.suffix[1:]} that can be read ({one_line(error)})"
        raise refusal(file, problem, "download the bundle again") from None
    if not isinstance(values, dict):
        raise refusal(file, f"holds a {type(values).__name__} at its top, not keys", "download the bundle again")
    return values


def _from_yaml(file: Path, content: bytes) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise refusal(file, "needs the package PyYAML", install("monai")) from None
    # Merge keys (<<) can grow without bound; not taken apart, they are an error.
    loader = type("Loader", (yaml.SafeLoader,), {"flatten_mapping": lambda *_: None})
    try:
        return yaml.load(content, loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
