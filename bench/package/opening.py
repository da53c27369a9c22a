"""A package made ready for a worker, on the machine where it is now."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bench.errors import InputError
from bench.machine import host
from bench.package.document import ARTEFACTS, NETWORKS, document_sha256, read_package
from bench.package.networks import identity_of
from bench.pipeline.settings import InferenceSettings
from bench.plan.cache import cache_folder
from bench.plan.networks import classes_of
from bench.plan.opening import Opening
from bench.plan.settings import of_variant
from bench.plan.variants.variants import row_of
from bench.worker import allocator
from bench.worker.messages import Open
from engines.base import Calibration, EngineError, Target
from engines.cache import DATA, kind_of
from engines.probe import incompatible_reason
from models.load import load_model
from models.model import Model
from models.options import ModelOptions
from models.task import TaskError
from models.task_file import task_from_values
from reports.formatting import command_line
from reports.records.package import PackageRecord

if TYPE_CHECKING:
    from torch import Tensor


def open_package(
    folder: Path,
    device: str = "auto",
    threads: int | None = None,
    trust: Path | None = None,
    to_trust: str | None = None,
) -> Opening:
    """Read the package in `folder` and say how a worker opens it; nothing in it is run for that.

    `to_trust`: what a user does to have built code run, where that is not the option --trust.

    Raises:
        InputError, models.errors.CheckpointError: as of `opening_of`, or it is damaged.
    """
    return opening_of(folder, read_package(folder), device, threads, trust, to_trust)


def opening_of(
    folder: Path,
    record: PackageRecord,
    device: str,
    threads: int | None,
    trust: Path | None,
    to_trust: str | None = None,
) -> Opening:
    """The same of a package whose document was read and checked. Built code in it is taken only where `trust` names it.

    Raises:
        InputError, models.errors.CheckpointError: it is made for another kind of device, or holds code.
    """
    _refuse_code(folder, record, trust, to_trust or f"add {command_line('--trust', folder)}")
    options = options_of(folder, record)
    model = _model(folder, record, options)
    target = target_of(folder, record, model, _device(folder, record, device), threads)
    own, paths = record.settings, paths_of(folder, record)
    backend = row_of(own.backend, target.device)
    opening = Open(
        record.variant, backend, paths[0], None, options, target, _inference(record, model),
        incompatible_reason(backend, model.program, own.batch, own.rewrites), own.rewrites,
        keep_memory=allocator.can_keep(), further_checkpoints=paths[1:],
    )  # fmt: skip
    return Opening(opening, classes_of(model), _identity(folder, record), f"{record.variant} of the package {folder}")


def _refuse_code(folder: Path, record: PackageRecord, trust: Path | None, to_trust: str) -> None:
    """By what lies there, and not by what the document says of it."""
    built = {PurePosixPath(name).parts[1] for name in record.files if name.startswith(f"{ARTEFACTS}/")}
    kinds = sorted({kind_of(name) for name in built} - {*DATA})
    if kinds and (trust is None or trust.resolve() != folder.resolve()):
        raise InputError(
            f"{folder}: holds built code ({', '.join(kinds)}), which is run when it is opened; if you trust whoever "
            f"made it, {to_trust}"
        )


def _identity(folder: Path, record: PackageRecord) -> dict[str, str]:
    return {
        "package": document_sha256(folder),
        "variant": record.variant,
        "settings": str(record.settings),
        "weights": ", ".join(record.network.sha256),
    }


def paths_of(folder: Path, record: PackageRecord) -> tuple[Path, ...]:
    """What is read of each network."""
    return tuple(folder.absolute() / path for path in record.network.paths)


def options_of(folder: Path, record: PackageRecord) -> ModelOptions:
    """What is to be said of the networks' files.

    Raises:
        InputError: its task contradicts itself.
    """
    network = record.network
    try:
        task = None if network.task is None else task_from_values(network.task, "the package")
    except TaskError as error:
        raise InputError(f"{folder}: its task cannot be used ({error}); export the package anew") from None
    return ModelOptions(tile=network.tile, window=network.window, task=task)


def calibration_of(record: PackageRecord) -> Calibration | None:
    """The training tiles that INT8 ranges were taken from, which no package holds."""
    return None if record.calibration_sha256 is None else Calibration(_no_tiles, record.calibration_sha256)


def target_of(folder: Path, record: PackageRecord, model: Model, device: str, threads: int | None) -> Target:
    """Where and how its engine runs: without `threads` on those of its run, as far as this machine has them."""
    return Target(
        device, record.tile, record.settings.batch,
        threads or host.threads_like(record.settings.threads or record.threads), cache_folder(),
        calibration_of(record), None, model.channels, (folder / ARTEFACTS).absolute(),
        record.settings.streams, record.settings.int8_dice,
    )  # fmt: skip


def _inference(record: PackageRecord, model: Model) -> InferenceSettings:
    """How a volume is brought to it."""
    return InferenceSettings.of(
        model,
        protocol=record.protocol,
        official=record.preprocessing == "nnunet",
        networks=len(record.network.paths),
        **{"tile": record.tile, **of_variant(record.settings)},
    )


def _device(folder: Path, record: PackageRecord, wanted: str) -> str:
    if wanted == "auto":
        return host.resolve_device(record.device)
    device = host.resolve_device(wanted)
    if device.partition(":")[0] != record.device:
        raise InputError(f"{folder}: made for {record.device}, not {device}; leave --device out, or export a run there")
    return device


def _model(folder: Path, record: PackageRecord, options: ModelOptions) -> Model:
    """The first network; what is asked of it here is true of all."""
    with load_model(paths_of(folder, record)[0], options) as (model, _):
        if identity_of(model) != record.network.sha256[0]:
            raise InputError(f"{folder / NETWORKS}: the weights are not those of its document; export it anew")
        return model


def _no_tiles() -> "Tensor":
    raise EngineError("INT8 ranges come from training cases, which no package holds; export it here")
