"""What a run will do: options and files checked, before anything is written or any backend is built."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import engines
from bench import peers
from bench.accuracy import task_of
from bench.commands.command import refuse_channels
from bench.data.cases import check_cases, declared_values, find_cases
from bench.data.class_table import read_class_tables
from bench.data.dataset_json import mask_values
from bench.data.layouts import QUIZ, CaseFiles, folder_of, unused_volumes
from bench.data.remarks import remark_on_unused, remarks_on, remarks_on_classes, remarks_on_labels
from bench.data.volume import MaskValues
from bench.errors import InputError
from bench.machine import host
from bench.pipeline.nnunet.reader import refuse_unreadable
from bench.pipeline.preparation import largest_case
from bench.pipeline.settings import InferenceSettings
from bench.plan import no_network
from bench.plan.accuracy_claim import resolve_accuracy
from bench.plan.cache import demo_data, prepare_cache
from bench.plan.calibration import calibrate, calibration_sha256, remark_on_names
from bench.plan.controlled_settings import (
    controlled_settings,
    describe_checkpoint,
    describe_data,
    options_record,
)
from bench.plan.networks import Networks, classes_of, networks_of
from bench.plan.request import Request
from bench.plan.settings import (
    check_batch,
    check_commands,
    check_shard,
    check_tta,
    inference_settings,
    place_of,
    recipes_of,
    settings_of,
    tta_of,
    variants_of,
    with_files,
)
from bench.plan.variants.augmentation import resolved_tta
from bench.plan.variants.variants import (
    commands_alone,
    packages_of,
    peers_among,
    refuse_conflict,
    required_names,
    row_of,
)
from bench.plan.workers import opens
from bench.progress import Progress
from bench.shard import Shard
from bench.worker.messages import Open, OpenCommand
from engines.host import known_faults
from engines.probe import versions
from models.model import Model
from models.task import PANCREAS
from reports.formatting import count
from reports.records.record import Case, CheckpointRecord, HostRecord, RunRecord, Settings, VariantSettings

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
    recipes = recipes_of(request)
    variants = variants_of(request, recipes)  # before anything is read; the baseline depends on the checkpoint
    required_names(request.required, variants)
    refuse_conflict([own.backend for own in variants.values()])
    peers.refuse_setting(peers_among(variants), request.protocol, request.roi)
    check_commands(variants, request.protocol)
    device = host.resolve_device(request.device)
    if request.demo_width is not None and (request.checkpoint is not None or request.model_options.arch is not None):
        raise InputError("--demo-width: widens the bundled demo checkpoint only; leave --checkpoint and --arch out")
    networks = networks_of(request, commands_alone(variants))
    model, layers = networks.model, networks.layers
    if networks.checkpoint is None:
        described = no_network.describe(model, options_record(request.model_options, request.task))
    else:
        described = describe_checkpoint(model, networks.checkpoint, networks.paths, request, layers, networks.further)
    usual = engines.baseline_for(model.program.container if model.program else None)
    if request.overlap is None:
        request = replace(request, overlap=model.overlap)
    check_tta(request, model)
    request = replace(request, tta=resolved_tta(request.tta, model))
    recipes = recipes_of(request)
    named = variants_of(request, recipes, usual)
    variants = {name: replace(with_files(own), tta=tta_of(own, model)) for name, own in named.items()}
    check_batch(request, model)
    settings = settings_of(request, variants, device, model)
    return SetUp(request, networks, described, settings, next(iter(variants)))


@dataclass(frozen=True)
class CheckedData:
    """The cases of a run.

    Attributes:
        unused: volumes of the split that belong to no case.
        values: of the masks of the truth.
    """

    root: Path
    layout: str
    case_files: list[CaseFiles]
    cases: list[Case]
    unused: list[Path]
    values: MaskValues


def make_plan(request: Request, run_id: str, created: str, progress: Progress) -> Plan:
    """Check everything a run needs.

    Raises:
        InputError, models.reader.checkpoint.CheckpointError: something cannot be used; nothing was written.
    """
    setup = set_up(request)
    request, networks, baseline = setup.request, setup.networks, setup.baseline
    model, inference, variants = networks.model, setup.inference, setup.settings.variants
    for warning in networks.warnings:
        progress.note(warning)
    if request.shard is not None:
        check_shard(request.shard, setup.settings)
    data = _checked_data(setup, progress)
    settings = replace(setup.settings, accuracy=resolve_accuracy(request, data.root, data.case_files))
    remarks = _remarks(data, model, progress)
    if not commands_alone(variants):
        remarks = (*remarks, *_remarks_on_memory(data.cases, inference, progress))
    evaluated = [] if request.tuning else data.case_files
    tiles, calibration_cases = calibrate(settings, data.root, evaluated, inference, data.values)
    remarks = (*remarks, *_remarks_on_names(calibration_cases if evaluated else [], data, progress))
    prepare_cache(progress.note)
    described = describe_data(data.root, data.layout, request, data.case_files, calibration_cases, data.values, remarks)
    record = RunRecord(
        id=run_id,
        created=created,
        command=request.command,
        settings=settings,
        checkpoint=setup.checkpoint,
        task=task_of(classes_of(model), model.labels, model.subtypes),
        data=replace(described, calibration_sha256=calibration_sha256(tiles)),
        cases=tuple(data.cases),
        host=_host(settings.device, settings),
        versions=host.versions() | _versions(variants, model),
        controlled_settings=controlled_settings(settings, model, baseline, len(networks.paths)),
        baseline=baseline,
        baseline_chosen=request.baseline is not None,
        peers=peers_among(variants),
    )
    return Plan(record, opens(settings, record.checkpoint, networks, inference, tiles, images_of(record)))


def _checked_data(setup: SetUp, progress: Progress) -> CheckedData:
    """Find the cases that are asked for, and check their files against the network and own commands."""
    request, model = setup.request, setup.networks.model
    if request.data is not None and request.demo != "pancreas":
        raise InputError(f"--demo {request.demo}: chooses among the demo's volumes; leave --data out")
    root = (request.data or demo_data(progress, request.demo, request.max_cases)).absolute()
    task = classes_of(model)
    layout, listed = find_cases(root, request.split, task.classes or None)
    case_files = evenly([case for case in listed if not request.cases or case.name in request.cases], request.max_cases)
    progress.start("checking cases", len(case_files))
    values = _values(root, layout, model, case_files)
    for name, own in setup.settings.commands.items():
        assert own.command is not None
        refuse_channels(place_of(name), own.command, max(len(case.image_paths) for case in case_files))
    cases = check_cases(case_files, task, values, progress.advance)
    if model.plans is not None:
        refuse_unreadable(model.plans, (path for case in case_files for path in case.image_paths))
    return CheckedData(root, layout, case_files, cases, unused_volumes(root, request.split, listed), values)


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


def images_of(record: RunRecord) -> tuple[str, ...]:
    return tuple(case.image for case in record.cases)


def _host(device: str, settings: Settings) -> HostRecord:
    """The machine, with what a reader should know: its limits, and known faults that meet one of the variants."""
    record, backends = host.describe(device), [row_of(own.backend, device) for own in settings.variants.values()]
    faults = [fault for fault in known_faults.present(device) if any(map(fault.concerns, backends))]
    return replace(record, remarks=(*host.limits_of(record), *map(known_faults.words, faults)))


def _versions(variants: Mapping[str, VariantSettings], model: Model) -> dict[str, str]:
    plans, bundle = model.plans is not None, model.bundle is not None
    return versions(*packages_of(variants, plans=plans, bundle=bundle))


def evenly(cases: list[AnyCase], most: int | None) -> list[AnyCase]:
    """At most `most` cases, spread over the sorted list so that every class stays in."""
    if most is None or most >= len(cases):
        return cases
    return [cases[i * len(cases) // most] for i in range(most)]


def _remarks(data: CheckedData, model: Model, progress: Progress) -> tuple[str, ...]:
    """Said before anything is measured, and kept for the report."""
    case_files = data.case_files
    reorients = model.plans is not None and model.plans.plans["image_reader_writer"] == "NibabelIOWithReorient"
    classes, names = {case.name: case.subtype for case in case_files}, classes_of(model).classes
    remarks = (
        *remarks_on(case_files, as_stored=not reorients),
        *remark_on_unused(data.unused),
        *remarks_on_labels(data.cases, model.task.labels),
        *(remarks_on_classes(classes, read_class_tables(folder_of(data.root), set(classes), names)) if names else ()),
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


def _remarks_on_names(calibration_cases: Collection[str], data: CheckedData, progress: Progress) -> tuple[str, ...]:
    remarks = tuple(remark_on_names(data.root, data.case_files)) if calibration_cases else ()
    for remark in remarks:
        progress.note(remark)
    return remarks


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
