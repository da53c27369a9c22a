"""Where a network lies: in a file of its own, or in the folder of a MONAI bundle."""

from dataclasses import dataclass
from pathlib import Path

import torch

from models.errors import refusal
from models.reader.container import container_of

CONFIGURATIONS = ("inference", "train")  # of a bundle; of two the first says how the network is used
METADATA = "metadata"
_ENDINGS = (".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """Where a network lies, found before anything is read.

    Attributes:
        path: the file; of a bundle, that of its weights.
        container: the kind of file, by its content: one of the constants of `models.reader.container`.
        bundle: the folder of the MONAI bundle around it; None where there is none.
    """

    path: Path
    container: str
    bundle: Path | None = None


def find_source(path: Path) -> Source:
    """Look at `path`, a file or the folder of a MONAI bundle.

    Raises:
        CheckpointError: the file is missing, unreadable, or of a kind that is not read here; the bundle has no weights.
    """
    bundle = find_bundle(path)
    weights = path / "models" / "model.pt" if bundle is not None and path.is_dir() else path
    if weights != path and not weights.exists():
        program = weights.with_suffix(".ts")
        remedy = f"give {program} and --trust the same" if program.exists() else "download the whole bundle"
        raise refusal(path, "is a MONAI bundle without models/model.pt", remedy)
    source = Source(weights, container_of(weights), bundle)
    refuse_old_torch(weights, torch.__version__)
    return source


def find_bundle(path: Path) -> Path | None:
    """The folder of the bundle that `path` is, or in which it is the file of weights; None where there is none."""
    # As it is given first: the files of a bundle may be links into a store of files without names.
    for place in (path.absolute(), path.resolve()):
        if path.is_dir() and config_file(place, METADATA, *CONFIGURATIONS):
            return place.resolve()
        # Projects of any kind have a configs folder beside a models folder; the metadata is what only bundles have.
        root = place.parent.parent
        if path.is_file() and place.parent.name == "models" and (root / "configs" / "metadata.json").exists():
            return root.resolve()
    return None


def config_file(bundle: Path, *names: str) -> Path | None:
    """The first file of these names in the bundle's folder of configurations."""
    files = (bundle / "configs" / f"{name}{ending}" for name in names for ending in _ENDINGS)
    return next((file for file in files if file.exists()), None)


def refuse_old_torch(path: Path, version: str) -> None:
    """Refuse to read with a torch that has known holes in its readers (CVE-2025-32434, CVE-2026-24747)."""
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (2, 10):
        problem = f"is not read with torch {version}, whose safe loader can be made to run code (CVE-2026-24747)"
        raise refusal(path, problem, "install torch 2.10 or later")
