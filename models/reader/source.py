"""Where a network lies: in a file of its own, in the folder of a MONAI bundle, or in nnU-Net's of a training."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from models.errors import refusal, some
from models.reader.container import container_of

CONFIGURATIONS = ("inference", "train")  # of a bundle; of two the first says how the network is used
METADATA = "metadata"
_ENDINGS = (".json", ".yaml", ".yml")
_FOLD = re.compile(r"^fold_(\d{1,3}|all)$")
_FINAL, _BEST = "checkpoint_final.pth", "checkpoint_best.pth"  # nnU-Net's predictor takes the first


@dataclass(frozen=True)
class Source:
    """Where a network lies, found before anything is read.

    Attributes:
        path: the file; of a bundle, that of its weights.
        container: the kind of file, by its content: one of the constants of `models.reader.container`.
        bundle: the folder of the MONAI bundle around it; None where there is none.
        remarks: what was chosen on the way here.
    """

    path: Path
    container: str
    bundle: Path | None = None
    remarks: tuple[str, ...] = ()


def find_source(path: Path) -> Source:
    """Look at `path`, a file, the folder of a MONAI bundle, or nnU-Net's of a training or of one fold of it.

    Raises:
        CheckpointError: the file is missing, unreadable, or of a kind that is not read here; the folder has no weights,
            or those of several folds.
    """
    if path.is_dir() and (folds := _folds(path)):
        return _of_fold(path, folds)
    trainings = sorted(folder.name for folder in path.glob("*__*__*/")) if path.is_dir() else []
    if trainings:
        problem = f"holds trainings of nnU-Net ({some(trainings)})"
        raise refusal(path, problem, f"give one of them, such as {path / trainings[0]}")
    bundle = find_bundle(path)
    weights = path / "models" / "model.pt" if bundle is not None and path.is_dir() else path
    if weights != path and not weights.exists():
        program = weights.with_suffix(".ts")
        remedy = f"give {program} and --trust the same" if program.exists() else "download the whole bundle"
        raise refusal(path, "is a MONAI bundle without models/model.pt", remedy)
    source = Source(weights, container_of(weights), bundle)
    refuse_old_torch(weights, torch.__version__)
    return source


def fold_folders(path: Path, wanted: str) -> tuple[Path, ...]:
    """The folders of the `wanted` folds of a training of nnU-Net: ``all``, or numbers as in ``0,2,4``.

    ``all`` are the numbered ones, as nnU-Net's predictor finds them by itself; ``fold_all`` where there is no other.

    Raises:
        CheckpointError: `path` is no folder of a training, or a fold is not there or not trained to its end.
    """
    folds = {fold.name.removeprefix("fold_"): fold for fold in _folds(path)} if path.is_dir() else {}
    if not folds or is_fold(path.absolute()):
        raise refusal(path, "is no results folder of nnU-Net, whose folds could be named", "leave --folds out")
    numbered = [name for name in folds if name != "all"]
    names = (numbered or ["all"]) if wanted == "all" else list(dict.fromkeys(wanted.split(",")))
    missing = [f"fold_{name}" for name in names if name not in folds]
    if missing:
        raise refusal(path, f"has no {some(missing)}", f"choose from {', '.join(sorted(folds))}")
    for name in names if wanted == "all" else ():
        if not (folds[name] / _FINAL).exists():
            problem = f"has no {_FINAL} in fold_{name}"
            raise refusal(path, problem, "train it to its end, or name the folds, as in --folds 0,1,2")
    return tuple(folds[name] for name in names)


def is_fold(path: Path) -> bool:
    """Whether a folder is named as nnU-Net names that of one fold of a training, such as ``fold_0`` or ``fold_all``."""
    return _FOLD.match(path.name) is not None


def _folds(path: Path) -> list[Path]:
    """The folds of a training, by their names; `path` itself where it is one."""
    return [path] if is_fold(path.absolute()) else sorted(folder for folder in path.glob("fold_*") if is_fold(folder))


def _of_fold(path: Path, folds: list[Path]) -> Source:
    trained = [fold for fold in folds if (fold / _FINAL).exists() or (fold / _BEST).exists()]
    if not trained:
        problem = f"is a results folder of nnU-Net without {_FINAL} in {some([fold.name for fold in folds])}"
        raise refusal(path, problem, "train it to its end, or give the file of the weights")
    if len(trained) > 1:
        names = some([fold.name for fold in trained], 8)
        remedy = f"give one, such as {trained[0]}, or average them with --folds all"
        raise refusal(path, f"holds the networks of {len(trained)} folds ({names})", remedy)
    final = trained[0] / _FINAL
    remark = f"{_BEST} of {trained[0].absolute().name} was taken, which has no {_FINAL}"
    weights, remarks = (final, ()) if final.exists() else (trained[0] / _BEST, (remark,))
    source = Source(weights, container_of(weights), remarks=remarks)
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
        if path.is_file() and place.parent.name == "models" and config_file(root, METADATA):
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
