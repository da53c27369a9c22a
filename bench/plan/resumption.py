"""The plan of a run that was begun earlier, from its record, and what refuses to go on with it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench.accuracy import task_of
from bench.commands.command import refuse_changed
from bench.data.cases import find_cases, fingerprint
from bench.data.volume import MaskValues
from bench.errors import InputError
from bench.machine import host
from bench.pipeline.settings import InferenceSettings
from bench.plan import no_network
from bench.plan.cache import prepare_cache
from bench.plan.calibration import Calibrations, calibrate
from bench.plan.controlled_settings import model_options_of
from bench.plan.networks import Networks, classes_of, read_networks, recorded_paths, without_network
from bench.plan.plan import Plan, images_of
from bench.plan.settings import inference_settings, place_of
from bench.plan.variants.variants import commands_alone, packages_of
from bench.plan.workers import opens
from bench.progress import Progress
from engines.host import cuda
from engines.probe import versions
from reports.decision.comparability import machine
from reports.records.record import HostRecord, RunRecord, Settings


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
    return Plan(record, opens(settings, record.checkpoint, networks, inference, tiles, images_of(record)))


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
        refuse_changed(f"{where}{place_of(name)}", own.command)


def recorded_networks(record: RunRecord) -> Networks:
    """The networks of a run that was begun earlier.

    Raises:
        InputError, models.reader.checkpoint.CheckpointError: they are no longer those that the run began with.
    """
    paths, options = recorded_paths(record.checkpoint), model_options_of(record.checkpoint)
    if record.checkpoint.container == no_network.NONE and options.task is not None:
        networks = without_network(options.task)
    else:
        alone = commands_alone(record.settings.variants)
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
