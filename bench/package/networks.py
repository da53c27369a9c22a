"""The networks of a variant as files of a package, read back to see that they are the same."""

from dataclasses import dataclass
from pathlib import Path

from bench.errors import InputError
from bench.package.document import NETWORKS
from bench.plan.networks import recorded_paths
from bench.worker.messages import Open
from engines.onnx.export import write_graph
from engines.probe import incompatible_reason
from models.load import load_model
from models.model import Model
from models.options import ModelOptions
from models.portable import MadeByCodeError, portable_options, write_portable
from models.reader.checkpoint import Checkpoint
from models.task_file import task_values
from reports.records.package import PackageRecord, PackedNetwork
from reports.records.record import RunRecord


@dataclass(frozen=True)
class Packed:
    """Networks in a package.

    Attributes:
        paths: what is read of each, in the package.
        options: what is to be said of them when they are read.
        model: the first, as it was read back.
        record: the same for the package's document.
    """

    paths: tuple[Path, ...]
    options: ModelOptions
    model: Model
    record: PackedNetwork


def pack_networks(run: RunRecord, opening: Open, folder: Path) -> Packed:
    """Write the networks of a run's variant into the package in `folder`, and read them back.

    Raises:
        InputError: the variant's backend needs the network's own code, which no package holds.
        models.errors.CheckpointError: a network cannot be read any more.
    """
    packed = []
    for number, path in enumerate(recorded_paths(run.checkpoint)):
        place = folder / NETWORKS / str(number)
        place.mkdir(parents=True)
        with load_model(path, opening.model_options, opening.widen_to) as (model, checkpoint):
            file, options = _write(model, checkpoint, opening, place)
        packed.append((file, options, _read_back(file, options, model, opening)))
    files, (options, *_), models = zip(*packed, strict=True)
    record = PackedNetwork(
        paths=tuple(file.relative_to(folder).as_posix() for file in files),
        sha256=tuple(map(identity_of, models)),
        code=models[0].code,
        architecture=models[0].architecture,
        parameters=models[0].parameters,
        tile=options.tile,
        window=options.window,
        task=None if options.task is None else task_values(options.task),
    )
    return Packed(files, options, models[0], record)


def is_graph(record: PackageRecord) -> bool:
    """Whether its networks are ONNX graphs, which PyTorch does not run."""
    return record.network.paths[0].endswith(".onnx")


def identity_of(model: Model) -> str:
    """Hash of its weights; of a graph, which may hold them without names, that of the file."""
    return model.sha256 if model.program is None else model.program.sha256


def _write(model: Model, checkpoint: Checkpoint, opening: Open, place: Path) -> tuple[Path, ModelOptions]:
    said = opening.model_options
    try:
        widened = opening.widen_to is not None
        file = write_portable(checkpoint, model, said, place, widened=widened)
        return file, portable_options(checkpoint, model, said)
    except MadeByCodeError:
        file = place / "network.onnx"
        write_graph(model, opening.target, file)
        task = said.task or (model.task if checkpoint.task else None)
        return file, ModelOptions(tile=opening.target.tile, window=model.window, task=task)


def _read_back(file: Path, options: ModelOptions, before: Model, opening: Open) -> Model:
    with load_model(file, options) as (model, _):
        if model.program is not None:
            absent = incompatible_reason(opening.backend, model.program, opening.target.batch, opening.rewrites)
            if absent is not None:
                raise InputError(
                    f"--variant {opening.name}: its network is made by code, so that a package holds it as an ONNX "
                    f"graph, and this backend does not run one; choose a variant of ONNX Runtime or OpenVINO"
                )
            if lost := _lost(before, model):
                raise InputError(
                    f"--variant {opening.name}: its network is made by code, so that a package holds it as an ONNX "
                    f"graph, and beside one no {lost}; use --format onnx or openvino, whose model.json says them"
                )
        elif (model.sha256, model.code) != (before.sha256, before.code):
            raise InputError(
                f"--variant {opening.name}: its network cannot be packed: its files, read back, give "
                "another network; please report it"
            )
        return model


def _lost(before: Model, graph: Model) -> str | None:
    """What decides how cases become masks and a graph does not bring along: it is read of the network's other files."""
    parts = {
        "plans of nnU-Net": (before.plans, graph.plans),
        "transforms of a bundle": (before.bundle, graph.bundle),
        "labels and painting": ((before.labels, before.painting), (graph.labels, graph.painting)),
        "bounds of a task": (before.task.foreground_ml, graph.task.foreground_ml),
    }
    return next((what for what, (own, kept) in parts.items() if own != kept), None)
