"""A run in a folder of Weights & Biases, for `wandb sync` to upload whenever somebody wants: a group of runs.

Nothing is sent. W&B shows variants side by side as the runs of a group, so that each is a run of its own, and one more
is the whole with its files.
"""

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from bench.errors import InputError, StorageError
from models.errors import install
from reports.render.exchange.tracking import RUN_TAG, Tracked, TrackedRun


def log(tracked: Tracked, files: Mapping[str, bytes], *, folder: Path, project: str, again: bool) -> str:
    """Write a run into `folder`/wandb, and say how it is uploaded; what fails midway is taken out again.

    Args:
        tracked: figures, parameters and tags.
        files: that are kept with the run, by name.
        folder: made where it is missing.
        project: of W&B, that the runs are of.
        again: also where this run is there already.

    Raises:
        InputError: wandb is not installed, or the run is there already.
        StorageError: the folder cannot be written to.
    """
    wandb = _library()
    group = _new_group(folder, tracked.run.tags[RUN_TAG], again)
    made: list[Path] = []
    try:
        (folder / "wandb").mkdir(parents=True, exist_ok=True)  # else wandb takes a temporary one, with a warning
        runs = [(group, tracked.run, files), *((f"{group}-{n}", own, {}) for n, own in enumerate(tracked.variants, 1))]
        for run_id, run, kept in runs:
            _write_run(wandb, run_id, run, kept, folder, project, group, made)
    except BaseException as error:
        for each in made:
            shutil.rmtree(each, ignore_errors=True)
        if isinstance(error, OSError):
            raise StorageError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
        raise
    place = shlex.quote(str(folder / "wandb"))
    return f"{len(made)} runs in group {group}; upload them with: wandb sync {place}/offline-run-*-{group}*"


def _library() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it sends what breaks to its makers
    try:
        import wandb
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        raise InputError(f"bench log wandb-offline: takes wandb, which is not installed; {install('wandb')}") from None
    return wandb


def _new_group(folder: Path, run: str, again: bool) -> str:
    """The name of the group, which is the number of its first run too.

    Raises:
        InputError: there is one of this run already.
    """
    name = f"voxbench-{re.sub(r'[^A-Za-z0-9_-]', '-', run)}"
    places = {path.name.split("-", 3)[-1]: path for path in sorted((folder / "wandb").glob("offline-run-*"))}
    if name in places and not again:
        raise InputError(f"{places[name]}: holds run {run} already; log it a second time with --again")
    numbered = (f"{name}-again{n}" for n in count(2))
    return next(each for each in chain([name], numbered) if each not in places)


def _write_run(
    wandb: Any, run_id: str, run: TrackedRun, files: Mapping[str, bytes], folder: Path, project: str, group: str,
    made: list[Path],
) -> None:  # fmt: skip
    settings = wandb.Settings(
        mode="offline", console="off", silent=True, disable_git=True, disable_code=True, save_code=False,
        disable_job_creation=True, x_disable_stats=True, x_disable_meta=True, x_save_requirements=False,
    )  # fmt: skip
    written = wandb.init(
        dir=folder, id=run_id, project=project, name=run.name, group=group, job_type=run.tags["voxbench.kind"],
        notes=run.note, tags=[run.tags["voxbench.verdict"], run.tags["voxbench.shown_by"]],
        config={**run.tags, **run.parameters}, settings=settings, reinit="create_new",
    )  # fmt: skip
    place = Path(written.dir)  # what lies there is uploaded with the run
    made.append(place.parent)
    try:
        for name, content in files.items():
            (place / name).write_bytes(content)
        written.log(dict(run.metrics))
    finally:
        written.finish()
