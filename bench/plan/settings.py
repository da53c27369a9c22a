"""The settings of a run: what the user asks for, completed by the network, or refused where it does not fit."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import engines
from bench import peers
from bench.commands.command import named_files, refuse_missing
from bench.errors import InputError
from bench.imports import users_environment
from bench.machine import host
from bench.pipeline.settings import InferenceSettings
from bench.plan.request import Request
from bench.plan.variants.augmentation import OFF, mirror_axes, resolved_tta, tta_absent
from bench.plan.variants.recipes import BUILT_IN, read_commands, read_recipes
from bench.plan.variants.variants import read_variants, required_names, roi_absent, row_of
from bench.shard import Shard
from bench.worker import allocator
from models.model import Model
from reports.records.record import Settings, VariantSettings

_BUDGET_S = 600.0  # of rounds, where their number is not fixed


def recipes_of(request: Request) -> dict[str, VariantSettings]:
    """Recipes, own commands and what else is asked for by name.

    Raises:
        InputError: one of them cannot be read, or two have one name.
    """
    usual = (request.roi, _overlap(request), request.batch)
    commands, recipes = read_commands(request.commands, *usual), dict[str, VariantSettings]()
    if request.recipes is not None:
        path = BUILT_IN if request.recipes == "builtin" else Path(request.recipes)
        recipes = read_recipes(path, *usual, request.tta)
    if twice := sorted(recipes.keys() & (request.variants.keys() | commands.keys())):
        raise InputError(f"--command {twice[0]}: a recipe in {request.recipes} has this name; choose another")
    named = recipes | {**request.variants} | commands
    return {name: _in_folder(own, request.folder) for name, own in named.items()}


def _in_folder(own: VariantSettings, folder: Path | None) -> VariantSettings:
    """Where it is an own command, run in this folder in the place of the current one."""
    if own.command is None or folder is None:
        return own
    return replace(own, command=replace(own.command, folder=str(folder)))


def with_files(own: VariantSettings) -> VariantSettings:
    """Where it is an own command, with what the files that its line names hold now."""
    return own if own.command is None else replace(own, command=replace(own.command, files=named_files(own.command)))


def variants_of(
    request: Request, recipes: Mapping[str, VariantSettings], usual: str = engines.BASELINE
) -> dict[str, VariantSettings]:
    """Everything that is timed, the baseline first, the recipes last.

    With recipes and no ``--backends`` there is only the baseline beside them: the user's, else the `usual` one.

    Raises:
        InputError: a name that is no backend, or a batch that is no number of tiles.
    """
    listed, baseline = request.backends or ("" if recipes else "all"), request.baseline or usual
    return read_variants(
        listed,
        baseline,
        roi=request.roi,
        overlap=_overlap(request),
        batch=request.batch,
        tta=request.tta,
        own=recipes,
    )


def tta_of(own: VariantSettings, model: Model) -> str:
    """Its test-time augmentation by axes; a peer that always mirrors does so where the network allows it."""
    row = row_of(own.backend)
    if isinstance(row, peers.Peer) and row.mirrors:
        return resolved_tta("mirror", model) if model.mirror_axes else OFF
    return resolved_tta(own.tta, model)


def _overlap(request: Request) -> float:
    """The user's; where none is named, what most networks have until the network is known."""
    return Model.overlap if request.overlap is None else request.overlap


def inference_settings(settings: Settings, model: Model, networks: int = 1) -> InferenceSettings:
    """How these settings bring a volume to this model, or to an ensemble of so many `networks` like it."""
    return InferenceSettings.of(
        model,
        protocol=settings.protocol,
        tile=settings.tile,
        official=settings.preprocessing == "nnunet",
        networks=networks,
        **of_variant(settings),
    )


def of_variant(own: Settings | VariantSettings) -> dict[str, Any]:
    """What a variant may have of its own among the inference settings, as theirs are named."""
    shared = {"overlap": own.overlap, "batch": own.batch, "roi": own.roi, "mirror_axes": mirror_axes(own.tta)}
    if isinstance(own, Settings):
        return shared
    return shared | {"margin_mm": own.margin_mm} | ({} if own.tile is None else {"tile": own.tile})


def settings_of(request: Request, variants: dict[str, VariantSettings], device: str, model: Model) -> Settings:
    """All settings, those that are the same for every variant among them.

    Raises:
        InputError: they do not fit the network or each other.
    """
    _check_roi(request, variants, model)
    _check_rounds(request)
    same = {each.name: getattr(request, each.name) for each in fields(Settings) if hasattr(request, each.name)}
    resolved = {
        "variants": variants,
        "device": device,
        "tile": model.tile,
        "threads": request.threads or host.physical_threads(),
        "allocator": _allocator(request),
        "required": required_names(request.required, variants),
        "budget_s": _BUDGET_S if request.budget_s is None else request.budget_s,
        "race": request.race != "off" and request.rounds is None,
        "shard": "",  # until `sharded`
    }
    return Settings(**same | resolved)


def _allocator(request: Request) -> str:
    possible = allocator.can_keep()
    if request.allocator == allocator.KEEP and not possible:
        raise InputError("--allocator keep: only glibc can be asked to, and this is another C library; use system")
    return request.allocator or (allocator.KEEP if possible else allocator.SYSTEM)


def _check_rounds(request: Request) -> None:
    """Refuse what says when rounds end whose number is fixed."""
    if request.rounds is None:
        return
    fixed = f"--rounds {request.rounds} takes as many of every variant; leave one of both out"
    if request.budget_s is not None:
        raise InputError(f"--budget: says when --rounds auto ends, and {fixed}")
    if request.race == "on":
        raise InputError(f"--race on: ends the rounds of variants with --rounds auto, and {fixed}")


def _check_roi(request: Request, variants: Mapping[str, VariantSettings], model: Model) -> None:
    crops = request.roi != "none" or any(own.roi != "none" for own in variants.values())
    where = "--roi, --recipes" if any(own.recipe for own in variants.values()) else "--roi"
    if request.protocol == "center-patch" and crops:
        raise InputError(f"{where}: the centre patch is a crop already; use --roi none with --protocol center-patch")
    whose = "nnU-Net's plans say" if model.plans is not None else "the bundle's inferer says" if model.bundle else ""
    if whose and request.protocol != "sliding-window":
        raise InputError(f"--protocol: {whose} how a volume is tiled; use --protocol sliding-window")
    if request.preprocessing == "nnunet" and model.plans is None:
        raise InputError("--preprocessing nnunet: the network has no plans of nnU-Net; leave the option out")
    absent = roi_absent(request.roi, model)
    if absent is not None:
        raise InputError(f"--roi {request.roi}: {absent.reason}; {absent.fix}")


def check_tta(request: Request, model: Model) -> None:
    """Refuse test-time augmentation that the network does not allow."""
    absent = tta_absent(request.tta, model)
    if absent is not None:
        raise InputError(f"--tta {request.tta}: {absent.reason}; {absent.fix}")


def check_batch(request: Request, model: Model) -> None:
    """Refuse a batch that the checkpoint's program does not take."""
    takes = model.program and model.program.batch
    if takes and takes != request.batch:
        raise InputError(
            f"--batch {request.batch}: the checkpoint is a program that takes batches of {takes} only; "
            f"give --batch {takes}"
        )


def check_commands(variants: Mapping[str, VariantSettings], protocol: str) -> None:
    """Refuse own commands that cannot be run, or not by this protocol."""
    for name, own in variants.items():
        if own.command is None:
            continue
        if protocol != "sliding-window":
            raise InputError(f"{place_of(name)}: predicts whole volumes; use --protocol sliding-window")
        refuse_missing(place_of(name), own.command, users_environment())


def check_shard(shard: Shard, settings: Settings) -> None:
    """Refuse settings of which a shard alone would show something else than all together."""
    if settings.rounds is None:
        raise InputError(
            f"--shard {shard}: a shard that ends by what it alone has seen would bias what all show together; fix the "
            "number of rounds with --rounds N"
        )
    calls = [name for name, own in settings.variants.items() if own.one_call]
    if calls:
        raise InputError(
            f"--shard {shard}: {calls[0]} runs all cases in one call, which no shard has; leave it or --shard out"
        )


def place_of(command: str) -> str:
    """How an error line begins that is about an own command."""
    return f"command {command}"
