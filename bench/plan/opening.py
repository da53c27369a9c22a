"""One way of inference, made ready for whatever cases come: a variant of a run, or a checkpoint with a backend."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import engines
from bench.errors import InputError
from bench.machine import host
from bench.plan.cache import prepare_cache
from bench.plan.calibration import Calibrations
from bench.plan.networks import Networks, classes_of
from bench.plan.plan import set_up
from bench.plan.request import Request
from bench.plan.resumption import recorded_calibration, recorded_networks
from bench.plan.settings import inference_settings
from bench.plan.variants.variants import peers_among, refuse_no_single, row_of
from bench.plan.workers import opens
from bench.progress import Progress
from bench.worker.messages import Open
from models.errors import sides
from models.task import Task
from reports.decision.outcome import choose, decide, judge_candidates
from reports.decision.verdict import CONFIRMED, REFUTED, Claim
from reports.records.record import FAILED, SKIPPED, RunRecord, Settings, VariantSettings
from reports.records.store import Run, read_run


@dataclass(frozen=True)
class Opening:
    """What a worker needs to run cases, and what they are run by.

    Attributes:
        task: of the network, with the names of its classes, if it has any.
        identity: the network, its weights and all settings that decide what masks hold. Predictions of equal identity
            belong into one folder; where it is run, and on how many threads, is not part of it.
        source: where the network and the settings came from, for people.
    """

    open: Open
    task: Task
    identity: Mapping[str, str]
    source: str


def of_run(folder: Path, variant: str | None, progress: Progress, threads: int | None = None) -> Opening:
    """A variant of the run in `folder`, by default its winner; on as many threads as the run, or on `threads`.

    Raises:
        InputError, models.errors.CheckpointError, reports.records.store.RecordError: there is no such run or variant,
            or the network is no longer the run's.
    """
    run = read_run(folder)
    name = _checked(run, variant) if variant is not None else winner(run, progress)
    record, own = run.record, run.record.settings.variants[name]
    prepare_cache(progress.note)
    threads = threads or record.settings.threads or host.physical_threads()  # shards may have had unlike ones
    settings = replace(record.settings, variants={name: own}, threads=threads)
    networks = recorded_networks(record)
    _say_warnings(networks, progress)
    inference = inference_settings(settings, networks.model, len(networks.paths))
    tiles: Calibrations = {}
    if row_of(own.backend).precision == "int8":
        tiles = recorded_calibration(_readable(record, name), settings, inference, progress)
    (opened,) = opens(settings, record.checkpoint, networks, inference, tiles)
    return _opening(opened, own, settings, networks, f"{name} of the run {folder}")


def of_checkpoint(request: Request, backend: str | None, progress: Progress) -> Opening:
    """The network that `request` names, run by `backend`, by default as the baseline of a run would be.

    Raises:
        InputError, models.errors.CheckpointError: something cannot be used, or the backend is an INT8 one, for whose
            calibration a checkpoint brings no cases.
    """
    if backend is not None:
        refuse_no_single(backend, "a prediction", "in which no cases are streamed")
    # A baseline that is named stands alone; one that is not depends on the checkpoint.
    setup = set_up(replace(request, backends=backend or engines.BASELINE, baseline=backend))
    name, own = next(iter(setup.settings.variants.items()))
    if row_of(own.backend).precision == "int8":
        raise InputError(
            f"--backend {name}: INT8 takes its ranges from training cases, and a checkpoint brings none; name a run "
            "or a package that has this backend in the checkpoint's place"
        )
    prepare_cache(progress.note)
    _say_warnings(setup.networks, progress)
    settings = replace(setup.settings, variants={name: own})
    (opened,) = opens(settings, setup.checkpoint, setup.networks, setup.inference, {})
    return _opening(opened, own, settings, setup.networks, f"{setup.networks.paths[0]} by {name}")


def _say_warnings(networks: Networks, progress: Progress) -> None:
    for warning in networks.warnings:
        progress.note(warning)


def winner(run: Run, progress: Progress) -> str:
    """The variant that a run confirmed; where it did not come so far, the one that it would confirm, with a note.

    Raises:
        InputError: there is none.
    """
    claim = Claim.of(run.record.settings)
    outcome = decide(run, claim, judge_candidates(run, claim))
    chosen = outcome.subject if outcome.verdict == CONFIRMED else choose(run, claim)
    if outcome.verdict == REFUTED or chosen is None or chosen not in _choices(run):
        raise InputError(
            f"{run.folder}: no variant of this run is its winner ({outcome.headline}); choose with --variant from "
            f"{', '.join(_choices(run)) or 'another run'}"
        )
    if outcome.verdict != CONFIRMED:
        progress.note(f"{chosen} is this run's best, and not confirmed: {outcome.headline}")
    return chosen


def _checked(run: Run, name: str) -> str:
    choices = _choices(run)
    if name in choices:
        return name
    known = f"choose from {', '.join(choices) or 'those of another run'}"
    if name not in run.record.settings.variants:
        raise InputError(f"--variant {name}: {run.folder} has no such variant; {known}")
    if name in run.record.peers or name in run.record.settings.commands:
        raise InputError(f"--variant {name}: goes its own way from file to file, and is called in its own; {known}")
    own = run.variant(name)
    raise InputError(f"--variant {name}: {own.status} in this run ({own.reason}); {known}")


def _choices(run: Run) -> list[str]:
    """The variants that ran, without those that bring a pipeline of their own."""
    others = {*peers_among(run.record.settings.variants), *run.record.settings.commands}
    return [v.name for v in run.variants if v.status not in (SKIPPED, FAILED) and v.name not in others]


def _readable(record: RunRecord, name: str) -> RunRecord:
    if not Path(record.data.root).exists():
        raise InputError(
            f"{record.data.root}: not there any more, and {name} takes its INT8 ranges from its training cases; put it "
            "back, or choose another --variant"
        )
    return record


def _opening(opened: object, own: VariantSettings, settings: Settings, networks: Networks, source: str) -> Opening:
    assert isinstance(opened, Open), "own commands are no backends"
    calibration, task = opened.target.calibration, classes_of(networks.model)
    identity = {
        "network": networks.model.architecture,
        "weights_sha256": " ".join((networks.model.sha256, *networks.further)),
        "code_sha256": networks.model.code,
        "variant": opened.name,
        "settings": str(own),
        "device": settings.device.partition(":")[0],
        "tile": sides(opened.target.tile),
        "protocol": settings.protocol,
        "classes": ", ".join(task.classes),
        "calibration_sha256": "" if calibration is None else calibration.sha256,
        # Also what the network's own file says of preprocessing, which is long.
        "inference_sha256": hashlib.sha256(repr(opened.settings).encode()).hexdigest(),
    }
    return Opening(opened, task, identity, source)
