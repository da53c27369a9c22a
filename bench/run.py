"""The main job: plan -> interleaved rounds -> accuracy -> verdict -> run directory."""

from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import accuracy
from bench.choices import PLAN_FILE
from bench.data.volume import MaskValues, read_mask, read_space
from bench.data.write import write_subtypes
from bench.errors import InputError, InterruptedRunError, StorageError
from bench.plan.declaration import Declaration, read_declaration, refuse_other
from bench.plan.plan import Plan, make_plan, sharded
from bench.plan.request import Request
from bench.plan.resumption import resume_plan
from bench.progress import Progress
from bench.schedule.confirmation import confirm, plan_confirmation, to_confirm
from bench.schedule.groups import interleave_in_groups
from bench.schedule.interleave import Interleaver
from bench.schedule.limits import DEFAULT, Limits
from bench.schedule.run_directory import LATEST, RunDirectory, write_files, write_text
from bench.schedule.scoring import first_samples, first_subtypes, score_predictions
from bench.schedule.store import RunStore
from bench.worker.process import WorkerError, WorkerProcess
from bench.worker.questions import measure_peak
from reports.formatting import command_line
from reports.records.record import (
    COMPLETE,
    CONFIRMATION,
    INTERLEAVED,
    INTERRUPTED,
    OK,
    PENDING,
    RUNNING,
    Case,
    RunRecord,
    VariantRecord,
)
from reports.records.store import Run, read_run
from reports.render import markdown_files
from reports.render.csv_tables import cases_csv
from reports.summary.summarise import summarise


def run(
    request: Request,
    out: Path | None,
    progress: Progress,
    limits: Limits = DEFAULT,
    declaration: Declaration | None = None,
) -> Path:
    """Measure what `request` asks for in a new run directory, and return that.

    Raises:
        InputError and its like: something cannot be used, or is not what `declaration` says; nothing was written.
        BackendLostError: the baseline failed.
        InterruptedRunError: it was stopped; what was measured is saved.
    """
    now = datetime.now(UTC)
    run_id = now.strftime("%Y%m%d-%H%M%S")
    plan = make_plan(request, run_id, now.isoformat(timespec="seconds"), progress)
    if declaration is not None:
        plan = _held_to(declaration, plan, limits)
    if request.shard is not None:
        plan = sharded(plan, request.shard)
    return start(plan, out, progress, limits, declaration)


def start(
    plan: Plan,
    out: Path | None,
    progress: Progress,
    limits: Limits = DEFAULT,
    declaration: Declaration | None = None,
    *,
    temporary: bool = False,
) -> Path:
    """Measure what `plan` says in a new run directory, and return that; `temporary`: the caller deletes it.

    Raises:
        As of `run`.
        KeyboardInterrupt: it was stopped, and is temporary.
    """
    directory = (
        RunDirectory.create(out, temporary=temporary) if out else RunDirectory.create_new(Path("runs"), plan.record.id)
    )
    plan = replace(plan, record=replace(plan.record, id=plan.record.id if out else directory.folder.name))
    variants = plan.record.settings.variants
    records = {name: VariantRecord(name=name, settings=own) for name, own in variants.items()}
    with directory.locked():
        if declaration is not None:
            write_text(directory.folder / PLAN_FILE, declaration.text)
        directory.save_run(plan.record)
        for record in records.values():
            directory.save_variant(record)
        return _measure(plan, RunStore(directory, records), limits, progress)


def _held_to(declaration: Declaration, plan: Plan, limits: Limits) -> Plan:
    refuse_other(declaration, plan, limits.stopping)
    settings = replace(plan.record.settings, plan_sha256=declaration.sha256)
    return replace(plan, record=replace(plan.record, settings=settings, declared=declaration.declared))


def resume(folder: Path, progress: Progress, limits: Limits = DEFAULT) -> Path:
    """Finish the run in `folder`, and return that.

    Cases that all backends have had keep their samples, the others are run anew; a backend that was skipped or failed
    stays so, since later samples of it would have no baseline beside them.

    Raises:
        InputError and its like: there is no such run, it is complete, its files are no longer the same, or another
            process measures it.
    """
    if folder.is_symlink():  # which a run that begins meanwhile may lead elsewhere
        folder = folder.parent / folder.readlink()
    directory = RunDirectory(folder)
    # Nothing is read before: what another process measures at this moment would be lost.
    with directory.locked() if folder.is_dir() else nullcontext():
        plan, store = _left(directory, limits, progress)
        _drop_lost(plan.record, store, progress)
        return _measure(plan, store, limits, progress)


def _left(directory: RunDirectory, limits: Limits, progress: Progress) -> tuple[Plan, RunStore]:
    """The plan of an interrupted run, and what it measured."""
    folder = directory.folder
    before = read_run(folder)
    if before.record.status == COMPLETE:
        raise InputError(f"{folder}: this run is complete; {_to_see(folder)}")
    baseline = before.variant(before.record.baseline)
    if baseline.status not in (PENDING, OK):
        raise InputError(f"{folder}: its baseline {baseline.status} ({baseline.reason}); start a new run")
    for note in before.notes:
        progress.note(note)
    plan = resume_plan(replace(before.record, status=RUNNING), progress)
    if plan.record.settings.plan_sha256:
        _refuse_other_since(folder / PLAN_FILE, plan, limits)
    # Where it was killed while it ended, some are `ok` already; and masks may have been lost since they were scored.
    again = (
        replace(each, status=PENDING, scores=()) if each.status in (PENDING, OK) else each for each in before.variants
    )
    return plan, RunStore(directory, {record.name: record for record in again})


def _refuse_other_since(path: Path, plan: Plan, limits: Limits) -> None:
    """Refuse to go on with a run that was held to a plan, where it is no longer what was declared."""
    declaration = read_declaration(path)
    if declaration.sha256 != plan.record.settings.plan_sha256:
        raise InputError(f"{path}: not the plan that this run began with; put it back, or start a new run")
    refuse_other(declaration, plan, limits.stopping)


def _drop_lost(record: RunRecord, store: RunStore, progress: Progress) -> None:
    """Drop the samples whose mask cannot be read any more, as after a power cut: their cases are run anew."""
    cases, values = {case.name: case for case in record.cases}, MaskValues.of(record.task)
    for variant in list(store.records.values()):
        for sample in first_samples(variant):
            masks = ((store.mask(variant.name, cases[name], first=True), cases[name]) for name in sample.subtypes)
            problem = next((why for mask, case in masks if (why := _problem(mask, case, values))), None)
            if problem is not None:
                progress.note(f"{problem}; the case is run anew")
                store.drop(variant.name, sample.phase, sample.round, cases.get(sample.case))
    for case in record.cases:
        repeat = store.mask(record.baseline, case, first=False)
        if repeat.exists() and _problem(repeat, case, values) is not None:
            repeat.unlink()


def _problem(mask: Path, case: Case, values: MaskValues) -> str | None:
    try:
        read_mask(mask, read_space(Path(case.image)), values)
    except InputError as error:
        return str(error)
    return None


def _measure(plan: Plan, store: RunStore, limits: Limits, progress: Progress) -> Path:
    directory, record = store.directory, plan.record
    refused = directory.point_latest()
    if refused is not None:
        progress.note(f"{LATEST} does not lead to this run ({refused}); {_to_see(directory.folder)}")
    interleaver = Interleaver(store, record, progress)
    try:
        if limits.peak and not record.peak_flops and len(record.settings.commands) < len(record.settings.variants):
            record = replace(record, **_peak(record, progress))
            directory.save_run(record)
        record = interleave_in_groups(plan, record, interleaver, limits, progress)
        score_predictions(record, store, progress)
        chosen = to_confirm(record, interleaver, progress) if limits.confirmation else None
        if chosen is not None and store.records[chosen].status == PENDING:
            planned = record.confirmation or plan_confirmation(record, interleaver, chosen, limits.launches)
            record = replace(record, confirmed=chosen, confirmation=planned)
            directory.save_run(record)
            confirm(record, interleaver, progress)
        _record_noise(record, store)
        interleaver.fleet.close_all_but(())
        _finish(replace(record, status=COMPLETE), store)
    except BaseException as error:
        interleaver.fleet.close_all_but(())
        complete = False
        # What ended the run is what must be said, whatever fails now: for want of room, or since an import was cut.
        with suppress(Exception, KeyboardInterrupt):
            saved = read_run(directory.folder).record  # with the groups and the choice made since
            complete = saved.status == COMPLETE
            _finish(saved if complete else replace(saved, status=INTERRUPTED), store)
        if directory.temporary:
            raise
        if complete and isinstance(error, KeyboardInterrupt | StorageError):
            raise _unreported(error, directory) from None
        if isinstance(error, KeyboardInterrupt):
            command = directory.command_to_resume
            raise InterruptedRunError(f"interrupted; what was measured is kept. To finish it: {command}") from None
        raise
    return directory.folder


def _unreported(error: BaseException, directory: RunDirectory) -> InterruptedRunError | StorageError:
    """What is said of a complete run whose report could not be written: there is nothing to resume."""
    shown = f"the run is complete: {_to_see(directory.folder)}"
    if isinstance(error, StorageError):
        return StorageError(f"{error}; {shown}")
    return InterruptedRunError(f"interrupted while the report was written; {shown}")


def _to_see(folder: Path) -> str:
    return f"see it with `{command_line('bench', 'report', folder)}`"


def _peak(record: RunRecord, progress: Progress) -> dict[str, Any]:
    """How fast the device multiplies and moves memory, measured in a worker like any backend; empty where that fails.

    The keys are fields of the run's record.
    """
    settings = record.settings
    progress.start("measuring the device's peak", 1)
    try:
        with WorkerProcess(settings.threads) as worker:
            peak = worker.call(measure_peak, settings.device, settings.threads, timeout_s=settings.timeout_s)
    except WorkerError as error:
        progress.note(f"the device's peak was not measured: {error}")
        return {}
    return {
        "peak_flops": {precision: rate for precision, (rate, _) in peak.flops.items()},
        "peak_libraries": {precision: library for precision, (_, library) in peak.flops.items()},
        "peak_bytes_per_s": peak.bytes_per_s,
    }


def _record_noise(record: RunRecord, store: RunStore) -> None:
    """How far the baseline's later predictions are from its own first ones: the floor under every disagreement."""
    backend = store.records[record.baseline]
    first, later = first_subtypes(backend), _latest(backend)
    voxels = differing = 0
    for case in record.cases:
        masks = (store.mask(backend.name, case, first=True), store.mask(backend.name, case, first=False))
        if case.name in later and masks[1].exists():
            size, wrong = accuracy.disagreement(case, record.task, *masks)
            voxels, differing = voxels + size, differing + wrong
    if voxels:
        noise = {"voxels": voxels, "differing_voxels": differing}
        if record.classifies:
            noise["class_flips"] = sum(first[name] != subtype for name, subtype in later.items())
        store.put(replace(backend, noise=noise))


def _latest(backend: VariantRecord) -> dict[str, int | None]:
    """Predicted classes of its last sample of each case behind the first round."""
    return {
        case: subtype
        for s in backend.samples
        for case, subtype in s.subtypes.items()
        if (s.phase, s.round) != (INTERLEAVED, 0) and s.phase in (INTERLEAVED, CONFIRMATION)
    }


def _finish(record: RunRecord, store: RunStore) -> None:
    """Write everything that follows from the samples; also of a run that was cut short."""
    directory = store.directory
    for backend in list(store.records.values()):
        if backend.status == PENDING and record.status == COMPLETE:
            store.put(replace(backend, status=OK))
    write_classes(directory, store.records.values())
    directory.save_run(record)
    if record.status == COMPLETE:  # which it stays, so that no resumed run looks for them
        directory.drop_repeats()
    write_documents(directory, store.run(record))


def write_classes(directory: RunDirectory, variants: Iterable[VariantRecord]) -> None:
    """Write the classes that each variant predicted beside its masks."""
    for variant in variants:
        subtypes = {case: subtype for case, subtype in first_subtypes(variant).items() if subtype is not None}
        if subtypes:
            write_subtypes(directory.predictions(variant.name) / "subtype_results.csv", sorted(subtypes.items()))


def write_documents(directory: RunDirectory, run: Run) -> None:
    """Write the table of all samples and the report of `run` into its directory."""
    write_text(directory.folder / "cases.csv", cases_csv(run))
    write_files(directory.folder, markdown_files(summarise(run)))
