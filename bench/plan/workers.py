"""What the worker of each variant is asked to open."""

from collections.abc import Collection
from dataclasses import replace

from bench import peers
from bench.commands.command import Command
from bench.imports import users_environment
from bench.pipeline.settings import InferenceSettings
from bench.plan.cache import cache_folder
from bench.plan.calibration import Calibrations
from bench.plan.controlled_settings import model_options_of
from bench.plan.networks import Networks, recorded_paths
from bench.plan.settings import of_variant
from bench.plan.variants.augmentation import tta_absent
from bench.plan.variants.variants import roi_absent, row_of, setting_absent
from bench.worker import allocator
from bench.worker.messages import Open, OpenCommand
from engines.base import Target
from engines.probe import incompatible_reason, ungraphable_reason
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
    (path, *further), widen_to = recorded_paths(checkpoint), checkpoint.widened_to
    options = model_options_of(checkpoint)
    keep = settings.allocator == allocator.KEEP

    def request(name: str, own: VariantSettings) -> Open | OpenCommand:
        if own.command is not None:
            target = Target(settings.device, settings.tile, own.batch, settings.threads, cache)
            command = Command(record=own.command, environment=users_environment(), timeout_s=settings.timeout_s)
            return OpenCommand(name, command, target)
        # A program's batch may be another.
        known = None if own.rewrites or model.program or own.tile is not None else layers
        tile = own.tile or settings.tile
        target = Target(
            settings.device, tile, own.batch, own.threads or settings.threads, cache, tiles.get(tile), known,
            model.channels, streams=own.streams, int8_dice=own.int8_dice,
        )  # fmt: skip
        backend = row_of(own.backend, settings.device)
        own_settings = replace(inference, **of_variant(own))
        absent = (
            incompatible_reason(backend, model.program, own.batch, own.rewrites)
            or ungraphable_reason(backend, model.only_python)
            or peers.incompatible_reason(backend, inference, own.batch)
            or peers.unreadable_reason(backend, images)
            or roi_absent(own.roi, model)
            or tta_absent(own.tta, model)
            or setting_absent(own, backend, model)
        )
        return Open(
            name, backend, path, widen_to, options, target, own_settings, absent, own.rewrites, keep_memory=keep,
            further_checkpoints=tuple(further),
        )  # fmt: skip

    return tuple(request(name, own) for name, own in settings.variants.items())
