"""What the worker of each variant is asked to open."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from bench import peers
from bench.commands.command import Command
from bench.imports import users_environment
from bench.pipeline.settings import InferenceSettings
from bench.plan.cache import cache_folder
from bench.plan.calibration import Calibrations
from bench.plan.controlled_settings import model_options_of
from bench.plan.networks import Networks, classes_of, recorded_paths
from bench.plan.settings import of_variant
from bench.plan.variants.augmentation import tta_absent
from bench.plan.variants.variants import roi_absent, row_of, setting_absent
from bench.worker import allocator
from bench.worker.messages import Open, OpenCommand
from engines.base import Availability, Backend, Target
from engines.probe import incompatible_reason, ungraphable_reason
from models.model import Model
from reports.records.record import CheckpointRecord, Settings, VariantSettings


def opens(
    settings: Settings,
    checkpoint: CheckpointRecord,
    networks: Networks,
    inference: InferenceSettings,
    tiles: Calibrations,
    images: Collection[str] = (),
) -> tuple[Open | OpenCommand, ...]:
    """A request for a worker for each variant; `images` are those of the cases, as far as they are known."""
    cache, model, layers = cache_folder(), networks.model, networks.layers
    path, *further = recorded_paths(checkpoint)

    def request(name: str, own: VariantSettings) -> Open:
        # A program's batch may be another.
        known = None if own.rewrites or model.program or own.tile is not None else layers
        tile = own.tile or settings.tile
        backend = row_of(own.backend, settings.device)
        return Open(
            name,
            backend,
            path,
            checkpoint.widened_to,
            model_options_of(checkpoint),
            Target(
                settings.device, tile, own.batch, own.threads or settings.threads, cache, tiles.get(tile), known,
                model.channels, streams=own.streams, int8_dice=own.int8_dice,
            ),
            replace(inference, **of_variant(own)),
            _incompatible(own, backend, model, inference, images),
            own.rewrites,
            keep_memory=settings.allocator == allocator.KEEP,
            further_checkpoints=tuple(further),
        )  # fmt: skip

    return tuple(
        request(name, own) if own.command is None else _command(name, own, model, settings, cache)
        for name, own in settings.variants.items()
    )


def _command(name: str, own: VariantSettings, model: Model, settings: Settings, cache: Path) -> OpenCommand:
    assert own.command is not None
    command = Command(
        record=own.command,
        environment=users_environment(),
        timeout_s=settings.timeout_s,
        class_names=classes_of(model).classes,
    )
    return OpenCommand(name, command, Target(settings.device, settings.tile, own.batch, settings.threads, cache))


def _incompatible(
    own: VariantSettings, backend: Backend, model: Model, inference: InferenceSettings, images: Collection[str]
) -> Availability | None:
    """Why a variant cannot run this network on these images, as far as that is known without trying."""
    return (
        incompatible_reason(backend, model.program, own.batch, own.rewrites)
        or ungraphable_reason(backend, model.only_python)
        or peers.incompatible_reason(backend, inference, own.batch)
        or peers.unreadable_reason(backend, images)
        or roi_absent(own.roi, model)
        or tta_absent(own.tta, model)
        or setting_absent(own, backend, model)
    )
