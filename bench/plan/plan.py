"""What a run will do: options and files checked, before anything is written or any backend is built."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import engines
from bench import peers
from bench.accuracy import task_of
from bench.commands.command import Command, named_files, refuse_changed, refuse_channels, refuse_missing
from bench.data.cases import check_cases, declared_values, find_cases, fingerprint
from bench.data.class_table import read_class_tables
from bench.data.dataset_json import mask_values
from bench.data.layouts import QUIZ, CaseFiles, folder_of, unused_volumes
from bench.data.remarks import remark_on_unused, remarks_on, remarks_on_classes, remarks_on_labels
from bench.data.volume import MaskValues
from bench.errors import InputError
from bench.imports import users_environment
from bench.machine import host
from bench.pipeline.nnunet.reader import refuse_unreadable
from bench.pipeline.preparation import largest_case
from bench.pipeline.settings import InferenceSettings
from bench.plan import calibration, no_network
from bench.plan.accuracy_claim import resolve_accuracy
from bench.plan.augmentation import OFF, mirror_axes, resolved_tta, tta_absent
from bench.plan.cache import cache_folder, demo_data, prepare_cache
from bench.plan.controlled_settings import (
    controlled_settings,
    describe_checkpoint,
    describe_data,
    model_options_of,
    options_record,
)
from bench.plan.networks import Networks, paths_of, read_networks, recorded_paths
from bench.plan.recipes import BUILT_IN, read_commands, read_recipes
from bench.plan.request import Request
from bench.plan.variants import (
    packages_of,
    peers_among,
    read_variants,
    refuse_conflict,
    required_names,
    roi_absent,
    row_of,
    setting_absent,
)
from bench.progress import Progress
from bench.shard import Shard
from bench.worker import allocator
from bench.worker.messages import Open, OpenCommand
from engines.base import Calibration, Target
from engines.host import cuda, known_faults
from engines.probe import incompatible_reason, ungraphable_reason, versions
from models.model import Model
from models.task import PANCREAS, Task
from reports.decision.comparability import machine
from reports.formatting import count
from reports.records.record import Case, CheckpointRecord, HostRecord, RunRecord, Settings, VariantSettings

Calibrations = Mapping[tuple[int, int, int], Calibration | None]
"""By the size of tiles; None, or none of a size, where there are no training cases for it."""

AnyCase = TypeVar("AnyCase")  # its files, or its record

_MUCH = 2**30  # bytes of memory that a case takes


@dataclass(frozen=True)
class Plan:
    """A run that can start: its record and one request for a worker for each backend, the baseline first."""

    record: RunRecord
    opens: tuple[Open | OpenCommand, ...]


@dataclass(frozen=True)
class SetUp:
    """What a run is of, before its data are looked at.

    Attributes:
        request: with what the network says where the user named nothing.
        checkpoint: what the record says of the networks.
    """

    request: Request
    networks: Networks
    checkpoint: CheckpointRecord
    settings: Settings
    baseline: str

    @property
    def inference(self) -> InferenceSettings:
        return inference_settings(self.settings, self.networks.model, len(self.networks.paths))


def set_up(request: Request) -> SetUp:
    """Check the options, and read the networks.

    Raises:
        InputError, models.reader.checkpoint.CheckpointError: something cannot be used; nothing was written.
    """
    recipes = _recipes(request)
    variants = _variants(request, recipes)  # before anything is read; the baseline depends on the checkpoint
    required_names(request.required, variants)
    refuse_conflict([own.backend for own in variants.values()])
    peers.refuse_setting(peers_among(variants), request.protocol, request.roi)
    _check_commands(variants, request.protocol)
    device = host.resolve_device(request.device)
    if request.demo_width is not None and (request.checkpoint is not None or request.model_options.arch is not None):
        raise InputError("--demo-width: widens the bundled demo checkpoint only; leave --checkpoint and --arch out")
    networks = _networks(request, _alone(variants))
    model, layers = networks.model, networks.layers
    if networks.checkpoint is None:
        described = no_network.describe(model, options_record(request.model_options, request.task))
    else:
        described = describe_checkpoint(model, networks.checkpoint, networks.paths, request, layers, networks.further)
    usual = engines.baseline_for(model.program.container if model.program else None)
    if request.overlap is None:
        request = replace(request, overlap=model.overlap)
    _check_tta(request, model)
    request = replace(request, tta=resolved_tta(request.tta, model))
    recipes = _recipes(request)
    named = _variants(request, recipes, usual)
    variants = {name: replace(_with_files(own), tta=_tta_of(own, model)) for name, own in named.items()}
    _check_batch(request, model)
    settings = _settings(request, variants, device, model)
    return SetUp(request, networks, described, settings, next(iter(variants)))


def make_plan(request: Request, run_id: str, created: str, progress: Progress) -> Plan:
    """Check everything a run needs.

    Raises:
        InputError, models.reader.checkpoint.CheckpointError: something cannot be used; nothing was written.
    """
    setup = set_up(request)
    request, networks, settings, baseline = setup.request, setup.networks, setup.settings, setup.baseline
    model, variants = networks.model, settings.variants
    for warning in networks.warnings:
        progress.note(warning)
    if request.shard is not None:
        _check_shard(request.shard, settings)
    if request.data is not None and request.demo != "pancreas":
        raise InputError(f"--demo {request.demo}: chooses among the demo's volumes; leave --data out")
    root = (request.data or demo_data(progress, request.demo, request.max_cases)).absolute()
    layout, listed = find_cases(root, request.split, classes_of(model).classes or None)
    case_files = evenly([case for case in listed if not request.cases or case.name in request.cases], request.max_cases)
    progress.start("checking cases", len(case_files))
    task, values = classes_of(model), _values(root, layout, model, case_files)
    for name, own in settings.commands.items():
        assert own.command is not None
        refuse_channels(_where(name), own.command, max(len(case.image_paths) for case in case_files))
    cases = check_cases(case_files, task, values, progress.advance)
    if model.plans is not None:
        refuse_unreadable(model.plans, (path for case in case_files for path in case.image_paths))
    settings = replace(settings, accuracy=resolve_accuracy(request, root, case_files))
    remarks = _remarks(root, case_files, cases, unused_volumes(root, request.split, listed), model, progress)
    inference = setup.inference
    if not _alone(variants):
        remarks = (*remarks, *_remarks_on_memory(cases, inference, progress))
    evaluated = [] if request.tuning else case_files
    tiles, calibration_cases = calibrate(settings, root, evaluated, inference, values)
    remarks = (*remarks, *_remarks_on_names(calibration_cases if evaluated else [], root, case_files, progress))
    prepare_cache(progress.note)
    record = RunRecord(
        id=run_id,
        created=created,
        command=request.command,
        settings=settings,
        checkpoint=setup.checkpoint,
        task=task_of(task, model.labels, model.subtypes),
        data=replace(
            describe_data(root, layout, request, case_files, calibration_cases, values, remarks),
            calibration_sha256=_calibration_sha256(tiles),
        ),
        cases=tuple(cases),
        host=_host(settings.device, settings),
        versions=host.versions() | _versions(variants, model),
        controlled_settings=controlled_settings(settings, model, baseline, len(networks.paths)),
        baseline=baseline,
        baseline_chosen=request.baseline is not None,
        peers=peers_among(variants),
    )
    return Plan(record, opens(settings, record.checkpoint, networks, inference, tiles, _images(record)))


def sharded(plan: Plan, shard: Shard) -> Plan:
    """The part of a plan that one shard runs: of its cases alone, while data and calibration are those of all.

    Raises:
        InputError: there are fewer cases than shards.
    """
    record = plan.record
    names = [case.name for case in record.cases]
    if shard.count > len(names):
        raise InputError(
            f"--shard {shard}: {count(len(names), 'case')} in all, and each shard needs one; take at most "
            f"{count(len(names), 'shard')}"
        )
    own = set(shard.names(names))
    record = replace(
        record,
        settings=replace(record.settings, shard=str(shard)),
        cases=tuple(case for case in record.cases if case.name in own),
        listed_cases=tuple(names),
    )
    return replace(plan, record=record)


def _images(record: RunRecord) -> tuple[str, ...]:
    return tuple(case.image for case in record.cases)


def _host(device: str, settings: Settings) -> HostRecord:
    """The machine, with what a reader should know: its limits, and known faults that meet one of the variants."""
    record, backends = host.describe(device), [row_of(own.backend, device) for own in settings.variants.values()]
    faults = [fault for fault in known_faults.present(device) if any(map(fault.concerns, backends))]
    return replace(record, remarks=(*host.limits_of(record), *map(known_faults.words, faults)))


def _versions(variants: Mapping[str, VariantSettings], model: Model) -> dict[str, str]:
    plans, bundle = model.plans is not None, model.bundle is not None
    return versions(*packages_of(variants, plans=plans, bundle=bundle))


def resume_plan(record: RunRecord, progress: Progress) -> Plan:
    """The plan of a run that was begun earlier, from its record.

    Raises:
        InputError: checkpoint, data, files of own commands, machine or versions are no longer those the run began with.
    """
    here = _here(record.settings.device)
    refuse_elsewhere(record, here, versions(*record.versions))
    refuse_changed_files(record.settings)
    remarks = (*record.host.remarks, *host.changes_since(record.host, here))
    record = replace(record, host=replace(record.host, remarks=tuple(dict.fromkeys(remarks))))
    prepare_cache(progress.note)
    networks, settings = recorded_networks(record), record.settings
    inference = inference_settings(settings, networks.model, len(networks.paths))
    tiles = recorded_calibration(record, settings, inference, progress)
    return Plan(record, opens(settings, record.checkpoint, networks, inference, tiles, _images(record)))


def _here(device: str) -> HostRecord:
    """This machine, also where it lacks the GPU that a run began on."""
    return host.describe("cpu" if device.startswith("cuda") and cuda.missing(device) is not None else device)


def refuse_elsewhere(began: RunRecord, here: HostRecord, installed: Mapping[str, str]) -> None:
    """Refuse to go on with a run on another machine than it began on, or with other `installed` code that runs it.

    What is a matter of no variant may change, as a runtime that was installed since; so may system and memory.

    Raises:
        InputError: so it is.
    """
    then, last = machine(began), ", or start a new run"
    # Runs of older versions do not say what instruction sets their processor has.
    known = here if began.host.cpu_features is not None else replace(here, cpu_features=None)
    now = machine(replace(began, host=known))
    if now != then:
        raise InputError(f"--resume: began on {then}, and this is {now}; resume it there{last}")
    names = ("voxbench", *packages_of(began.settings.variants, plans=True, bundle=True))
    before = {"Python": began.host.python} | {name: began.versions[name] for name in names if name in began.versions}
    current = {**installed, "Python": here.python}
    for name, version in before.items():
        if version is not None and current.get(name) != version:
            raise InputError(
                f"--resume: began with {name} {version}, and this is {current.get(name) or 'without it'}; "
                f"resume it with the former{last}"
            )


def refuse_changed_files(settings: Settings, where: str = "") -> None:
    """Refuse to go on where an own command names a file that is not what it was; the line begins with `where`.

    Raises:
        InputError: so it does.
    """
    for name, own in settings.commands.items():
        assert own.command is not None
        refuse_changed(f"{where}{_where(name)}", own.command)


def recorded_networks(record: RunRecord) -> Networks:
    """The networks of a run that was begun earlier.

    Raises:
        InputError, models.reader.checkpoint.CheckpointError: they are no longer those that the run began with.
    """
    paths, options = recorded_paths(record.checkpoint), model_options_of(record.checkpoint)
    if record.checkpoint.container == no_network.NONE and options.task is not None:
        networks = _without_network(options.task)
    else:
        alone = _alone(record.settings.variants)
        networks = read_networks(paths, options, record.checkpoint.widened_to, run=not alone)
    path, model = paths[0], networks.model
    before = (record.checkpoint.weights_sha256, *record.checkpoint.members)
    for changed, now, then in zip(paths, (model.sha256, *networks.further), before, strict=True):
        if now != then:
            raise InputError(f"{changed}: the weights are not those this run began with; start a new run")
    if model.code != record.checkpoint.code:
        raise InputError(f"{path}: the code of its network is not what this run began with; start a new run")
    if task_of(classes_of(model), model.labels, model.subtypes) != record.task:
        raise InputError(f"{path}: the task of its network is not what this run began with; start a new run")
    return networks


def recorded_calibration(
    record: RunRecord, settings: Settings, inference: InferenceSettings, progress: Progress
) -> Calibrations:
    """What INT8 variants among those of `settings` are calibrated on.

    Raises:
        InputError: the cases are no longer those that the run began with.
    """
    root = Path(record.data.root)
    _, listed = find_cases(root, record.data.split, record.task.class_names or None)
    names = set(record.listed_cases) or {case.name for case in record.cases}
    case_files = [case for case in listed if case.name in names]
    progress.start("checking cases", 1)
    if fingerprint(case_files) != record.data.sha256:
        raise InputError(f"{root}: the cases are not those this run began with; start a new run")
    values = MaskValues.of(record.task, record.data.mask_values)
    return calibrate(settings, root, case_files, inference, values)[0]


def _networks(request: Request, alone: bool) -> Networks:
    """What was read; where own commands run `alone` it is never run, and need not be there beside a task."""
    task = request.model_options.task
    if alone and request.checkpoint is None and request.model_options.arch is None and task is not None:
        return _without_network(task)
    return read_networks(paths_of(request), request.model_options, request.demo_width, run=not alone)


def _without_network(task: Task) -> Networks:
    return Networks(paths=(Path(),), model=no_network.model_of(task), checkpoint=None, layers=None)


def _alone(variants: Mapping[str, VariantSettings]) -> bool:
    """Whether own commands are all that is timed."""
    return all(own.command is not None for own in variants.values())


def _check_commands(variants: Mapping[str, VariantSettings], protocol: str) -> None:
    for name, own in variants.items():
        if own.command is None:
            continue
        if protocol != "sliding-window":
            raise InputError(f"{_where(name)}: predicts whole volumes; use --protocol sliding-window")
        refuse_missing(_where(name), own.command, users_environment())


def _where(command: str) -> str:
    return f"command {command}"


def _recipes(request: Request) -> dict[str, VariantSettings]:
    """Recipes, own commands and what else is asked for by name."""
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


def _with_files(own: VariantSettings) -> VariantSettings:
    """Where it is an own command, with what the files that its line names hold now."""
    return own if own.command is None else replace(own, command=replace(own.command, files=named_files(own.command)))


def _variants(
    request: Request, recipes: Mapping[str, VariantSettings], usual: str = engines.BASELINE
) -> dict[str, VariantSettings]:
    """Everything that is timed, the baseline first, the recipes last.

    With recipes and no ``--backends`` there is only the baseline beside them: the user's, else the `usual` one.
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


def _tta_of(own: VariantSettings, model: Model) -> str:
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


def evenly(cases: list[AnyCase], most: int | None) -> list[AnyCase]:
    """At most `most` cases, spread over the sorted list so that every class stays in."""
    if most is None or most >= len(cases):
        return cases
    return [cases[i * len(cases) // most] for i in range(most)]


def _check_shard(shard: Shard, settings: Settings) -> None:
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


def _check_batch(request: Request, model: Model) -> None:
    takes = model.program and model.program.batch
    if takes and takes != request.batch:
        raise InputError(
            f"--batch {request.batch}: the checkpoint is a program that takes batches of {takes} only; "
            f"give --batch {takes}"
        )


def _settings(
    request: Request,
    variants: dict[str, VariantSettings],
    device: str,
    model: Model,
) -> Settings:
    _check_roi(request, variants, model)
    same = {each.name: getattr(request, each.name) for each in fields(Settings) if hasattr(request, each.name)}
    resolved = {
        "variants": variants,
        "device": device,
        "tile": model.tile,
        "threads": request.threads or host.physical_threads(),
        "allocator": _allocator(request),
        "required": required_names(request.required, variants),
        "race": request.race == "on" and request.rounds is None,
        "shard": "",  # until `sharded`
    }
    return Settings(**same | resolved)


def _allocator(request: Request) -> str:
    possible = allocator.can_keep()
    if request.allocator == allocator.KEEP and not possible:
        raise InputError("--allocator keep: only glibc can be asked to, and this is another C library; use system")
    return request.allocator or (allocator.KEEP if possible else allocator.SYSTEM)


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


def _check_tta(request: Request, model: Model) -> None:
    absent = tta_absent(request.tta, model)
    if absent is not None:
        raise InputError(f"--tta {request.tta}: {absent.reason}; {absent.fix}")


def calibrate(
    settings: Settings, root: Path, evaluated: list[CaseFiles], inference: InferenceSettings, values: MaskValues
) -> tuple[Calibrations, list[str]]:
    """Of each size of tile that an INT8 variant has, and the names of the cases that they are from.

    Raises:
        InputError: one of these is among the `evaluated` cases.
    """
    sizes = {own.tile or settings.tile for own in settings.variants.values() if row_of(own.backend).precision == "int8"}
    calibrations, cases = dict[tuple[int, int, int], Calibration | None](), list[str]()
    for tile in sorted(sizes):
        of_tile = replace(inference, tile=tile)
        calibrations[tile], cases = calibration.from_training_cases(root, evaluated, of_tile, values)
    return calibrations, cases


def _calibration_sha256(tiles: Calibrations) -> str:
    """Of the calibration of every size of tile; empty without any."""
    hashes = [own.sha256 for _, own in sorted(tiles.items()) if own is not None]
    if len(hashes) < 2:
        return "".join(hashes)
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


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


def _remarks(
    root: Path, case_files: list[CaseFiles], cases: list[Case], unused: list[Path], model: Model, progress: Progress
) -> tuple[str, ...]:
    """Said before anything is measured, and kept for the report."""
    reorients = model.plans is not None and model.plans.plans["image_reader_writer"] == "NibabelIOWithReorient"
    classes, names = {case.name: case.subtype for case in case_files}, classes_of(model).classes
    remarks = (
        *remarks_on(case_files, as_stored=not reorients),
        *remark_on_unused(unused),
        *remarks_on_labels(cases, model.task.labels),
        *(remarks_on_classes(classes, read_class_tables(folder_of(root), set(classes), names)) if names else ()),
    )
    for remark in remarks:
        progress.note(remark)
    return remarks


def _remarks_on_memory(cases: list[Case], inference: InferenceSettings, progress: Progress) -> tuple[str, ...]:
    """What the case that takes most will take: said where it is much, and kept where there is not so much."""
    name, needed = largest_case(inference, cases)
    if needed < _MUCH:
        return ()
    available, _ = host.memory()
    beside = "the network" if inference.networks == 1 else f"the {inference.networks} networks, which are held at once"
    sentence = f"the case {name} takes up to {needed / 2**30:.1f} GiB of memory beside {beside}"
    if needed <= available:
        progress.note(f"{sentence}; {available / 2**30:.1f} GiB are free")
        return ()
    remark = f"{sentence}, and {available / 2**30:.1f} GiB are free: it may be stopped for want of memory"
    progress.note(remark)
    return (remark,)


def _remarks_on_names(
    calibration_cases: Collection[str], root: Path, case_files: list[CaseFiles], progress: Progress
) -> tuple[str, ...]:
    remarks = tuple(calibration.remark_on_names(root, case_files)) if calibration_cases else ()
    for remark in remarks:
        progress.note(remark)
    return remarks


def classes_of(model: Model) -> Task:
    """The network's task with as many classes of a case as it tells apart; the first keep their names."""
    names = [*model.task.classes[: model.subtypes], *map(str, range(len(model.task.classes), model.subtypes))]
    return replace(model.task, classes=tuple(names))


def _values(root: Path, layout: str, model: Model, case_files: list[CaseFiles]) -> MaskValues:
    """What the values in the masks of the truth mean: as their ``dataset.json`` says, else the task's own labels."""
    own = MaskValues.of(model.task)
    usual = mask_values({"labels": PANCREAS.labels}, model.task) if model.task.synonyms else own
    if layout == QUIZ:  # whose masks hold 1 pancreas, 2 lesion, whatever numbers the network was trained with
        return usual
    declared = declared_values(root, model.task)
    if declared is None and usual.pairs and any(case.mask_path for case in case_files):
        raise InputError(
            f"{root}: no dataset.json says what the values in the masks mean, and the data set of this network has "
            "other numbers than 1 pancreas, 2 lesion; put the dataset.json of these masks there"
        )
    return declared or own
