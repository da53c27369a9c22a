"""The whole of `bench merge`: what kind of shards the folders hold, and those joined."""

from collections.abc import Sequence
from pathlib import Path

from bench.errors import InputError
from bench.merge.predictions import Merged, merge_predictions
from bench.merge.runs import merge_runs
from bench.predict.journal import NAME
from bench.progress import Progress
from reports.records.store import RUN_FILE, Run

_KINDS = {RUN_FILE: "run", NAME: "predictions"}  # by the file that each has


def merge(folders: Sequence[Path], out: Path, command: str, progress: Progress) -> Run | Merged:
    """Join the shards in `folders` into `out`, which is whole or not there; `command` is what was typed.

    Raises:
        InputError, reports.records.store.RecordError: they are no whole set of shards of one kind.
    """
    kinds = {folder: _kind(folder) for folder in folders}
    first = folders[0]
    for folder, kind in kinds.items():
        if kind != kinds[first]:
            raise InputError(
                f"{folder}: a shard of {_KINDS[kind]}, while {first} is one of {_KINDS[kinds[first]]}; merge each kind "
                "by itself"
            )
    if kinds[first] == RUN_FILE:
        return merge_runs(folders, out, command, progress)
    return merge_predictions(folders, out, progress)


def _kind(folder: Path) -> str:
    for file in _KINDS:
        if (folder / file).is_file():
            return file
    what = "no such folder" if not folder.is_dir() else f"holds neither {' nor '.join(_KINDS)}"
    raise InputError(f"{folder}: {what}; name the folders that `bench run --shard` or `bench predict --shard` wrote")
