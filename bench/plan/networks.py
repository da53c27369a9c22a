"""The network that a run is of, or the networks of an ensemble: where they lie, and that they belong together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from bench import demo
from bench.errors import InputError
from bench.plan import no_network
from bench.plan.controlled_settings import layers_of_a_pass
from bench.plan.request import Request
from engines.layers import Layer
from models.ensemble import refuse_unlike
from models.load import load_model
from models.model import Model
from models.networks.window import UNNAMED
from models.options import ModelOptions
from models.reader.checkpoint import Checkpoint
from models.reader.source import fold_folders
from models.task import Task
from reports.records.record import CheckpointRecord


@dataclass(frozen=True)
class Networks:
    """What was read.

    Attributes:
        paths: of all of them, absolute.
        model, checkpoint: of the first; own commands alone may run without a checkpoint.
        layers: of a pass of the first over one tile; None where it is never run.
        further: hashes of the weights of the others; of programs those of the files.
    """

    paths: tuple[Path, ...]
    model: Model
    checkpoint: Checkpoint | None
    layers: tuple[Layer, ...] | None
    further: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Those of the model's remarks that are said before it sees a case."""
        return [remark for remark in self.model.remarks if remark.startswith(UNNAMED)]


def network_paths(checkpoints: Sequence[Path], folds: str | None) -> tuple[Path, ...]:
    """The files or folders of the networks; ``folds`` are those of the one training in `checkpoints`.

    Raises:
        InputError, models.errors.CheckpointError: there are no such folds.
    """
    if folds is None:
        return tuple(path.absolute() for path in checkpoints)
    if len(checkpoints) != 1:
        many = "several files" if checkpoints else "none"
        raise InputError(f"--folds {folds}: of one results folder of nnU-Net, and --checkpoint names {many}; name one")
    return fold_folders(checkpoints[0].absolute(), folds)


def paths_of(request: Request) -> tuple[Path, ...]:
    """Those that a request asks for; the bundled demo's where it names none.

    Raises:
        InputError, models.errors.CheckpointError: as `network_paths`.
    """
    named = () if request.checkpoint is None else (request.checkpoint, *request.further_checkpoints)
    if not named and request.folds is None:
        return (demo.CHECKPOINTS[request.demo].absolute(),)
    return network_paths(named, request.folds)


def recorded_paths(checkpoint: CheckpointRecord) -> tuple[Path, ...]:
    """Those that a run began with."""
    return tuple(map(Path, (checkpoint.path, *checkpoint.further_paths)))


def read_networks(
    paths: tuple[Path, ...], options: ModelOptions, widen_to: int | None = None, *, run: bool = True
) -> Networks:
    """Read them one after the other, and keep the weights of the first alone.

    Raises:
        models.errors.CheckpointError: one cannot be used, or does not belong to the others.
    """
    with load_model(paths[0], options, widen_to) as (model, checkpoint):
        layers = layers_of_a_pass(model) if run else None
    members = [(paths[0], model)]
    for path in paths[1:]:
        with load_model(path, options, widen_to) as (further, _):
            refuse_unlike(path, further, members)
            members.append((path, replace(further, module=nn.Identity())))
    remarks = dict.fromkeys(remark for _, member in members for remark in member.remarks)
    return Networks(
        paths=paths,
        model=replace(model, remarks=tuple(remarks)),
        checkpoint=checkpoint,
        layers=layers,
        further=tuple(member.sha256 if member.program is None else member.code for _, member in members[1:]),
    )


def networks_of(request: Request, alone: bool) -> Networks:
    """What was read; where own commands run `alone` it is never run, and need not be there beside a task.

    Raises:
        InputError, models.errors.CheckpointError: as `paths_of` and `read_networks`.
    """
    task = request.model_options.task
    if alone and request.checkpoint is None and request.model_options.arch is None and task is not None:
        return without_network(task)
    return read_networks(paths_of(request), request.model_options, request.demo_width, run=not alone)


def without_network(task: Task) -> Networks:
    """Of own commands that run alone: the task, and a model that is never run."""
    return Networks(paths=(Path(),), model=no_network.model_of(task), checkpoint=None, layers=None)


def classes_of(model: Model) -> Task:
    """The network's task with as many classes of a case as it tells apart; the first keep their names."""
    names = [*model.task.classes[: model.subtypes], *map(str, range(len(model.task.classes), model.subtypes))]
    return replace(model.task, classes=tuple(names))
