"""The main job: plan -> duels -> parity -> verdict -> run directory."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import accuracy
from bench.data.write import write_subtypes
from bench.errors import InputError, InterruptedRunError
from bench.plan.plan import Plan, make_plan, resume_plan
from bench.plan.request import Request
from bench.progress import Progress
from bench.schedule.confirmation import confirm
from bench.schedule.groups import duel_in_groups
from bench.schedule.interleave import Duel
from bench.schedule.run_directory import RunDirectory, write_text
from bench.worker.process import WorkerError, WorkerProcess
from bench.worker.questions import measure_peak
from reports.decision.outcome import choose
from reports.decision.verdict import Claim
from reports.records.record import (
    COMPLETE,
    CONFIRMATION,
    INTERLEAVED,
    INTERRUPTED,
    OK,
    PENDING,
    RUNNING,
    RunRecord,
    Sample,
    Score,
    VariantRecord,
)
from reports.records.store import Run, read_run
from reports.render import render
from reports.render.csv_tables import cases_csv
from reports.summary.summarise import summarise


def run(request: Request, out: Path | None, progress: Progress) -> Path:
    """Measure what `request` asks for in a new run directory, and return that.

    Raises:
        InputError and its like: something cannot be used; nothing was written.
        BackendLostError: the baseline failed.
        InterruptedRunError: it was stopped; what was measured is saved.
    """
    now = datetime.now(UTC)
    run_id = now.strftime("%Y%m%d-%H%M%S")
    plan = make_plan(request, run_id, now.isoformat(timespec="seconds"), progress)
    directory = RunDirectory.create(out or Path("runs") / run_id)
    variants = plan.record.settings.variants
    records = {name: VariantRecord(name=name, settings=own) for name, own in variants.items()}
    directory.save_run(plan.record)
    for record in records.values():
        directory.save_variant(record)
    return _measure(plan, records, directory, progress)


def resume(folder: Path, progress: Progress) -> Path:
    """Finish the run in `folder`, and return that.

    Cases that all backends have had keep their samples, the others are run anew; a backend that was skipped or failed
    stays so, since later samples of it would have no baseline beside them.

    Raises:
        InputError and its like: there is no such run, it is complete, or its files are no longer the same.
    """
    before = read_run(folder)
    if before.record.status == COMPLETE:
        raise InputError(f"{folder}: this run is complete; see it with `bench report {folder}`")
    baseline = before.variant(before.record.baseline)
    if baseline.status not in (PENDING, OK):
        raise InputError(f"{folder}: its baseline {baseline.status} ({baseline.reason}); start a new run")
    for note in before.notes:
        progress.note(note)
    plan = resume_plan(replace(before.record, status=RUNNING), progress)
    records = {record.name: record for record in before.variants}
    return _measure(plan, records, RunDirectory(folder), progress)


def _measure(plan: Plan, records: dict[str, VariantRecord], directory: RunDirectory, progress: Progress) -> Path:
    directory.point_latest()
    record = plan.record
    if not record.peak_flops:
        record = replace(record, **_peak(record, progress))
        directory.save_run(record)
    duel = Duel(directory, record, records, progress)
    try:
        record = duel_in_groups(plan, record, duel, directory, progress)
        _score(record, duel, directory, progress)
        chosen = record.confirmed or choose(_current(record, duel), Claim.of(record.settings))
        if chosen is not None and duel.records[chosen].status == PENDING:
            record = replace(record, confirmed=chosen)
            directory.save_run(record)
            confirm(record, duel, progress)
        _noise(record, duel, directory)
        _finish(replace(record, status=COMPLETE), duel, directory)
    except BaseException as error:
        saved = read_run(directory.folder).record  # with the groups and the choice made since
        _finish(replace(saved, status=INTERRUPTED), duel, directory)
        if isinstance(error, KeyboardInterrupt):
            way_on = f"bench run --resume --out {directory.folder}"
            raise InterruptedRunError(f"interrupted; what was measured is kept. To finish it: {way_on}") from None
        raise
    return directory.folder


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


def _score(record: RunRecord, duel: Duel, directory: RunDirectory, progress: Progress) -> None:
    names = [name for name in record.settings.variants if duel.records[name].status == PENDING]
    progress.start("checking parity", len(names))
    baseline = _subtypes(duel.records[record.baseline])
    for name in names:
        scores = _scores(record, duel.records[name], baseline, directory)
        duel.put(replace(duel.records[name], scores=scores))
        progress.advance(name)


def _scores(
    record: RunRecord, backend: VariantRecord, baseline: dict[str, int | None], directory: RunDirectory
) -> tuple[Score, ...]:
    subtypes, rois = _subtypes(backend), {s.case: s.roi for s in _first(backend)}
    return tuple(
        accuracy.score(
            case,
            record.settings,
            directory.prediction(backend.name, case.name),
            directory.prediction(record.baseline, case.name),
            subtypes[case.name],
            baseline[case.name],
            record.finds_lesions,
            rois[case.name],
        )
        for case in record.cases
        if case.name in subtypes and case.name in baseline
    )


def _subtypes(backend: VariantRecord) -> dict[str, int | None]:
    """Predicted classes of its first round, whose masks are kept; None where the network has no classification."""
    return {s.case: s.subtype for s in _first(backend)}


def _first(backend: VariantRecord) -> list[Sample]:
    duels = [s for s in backend.samples if s.phase == INTERLEAVED]
    return [s for s in duels if s.round == min(s.round for s in duels)]


def _noise(record: RunRecord, duel: Duel, directory: RunDirectory) -> None:
    """How far the baseline's later predictions are from its own first ones: the floor under every disagreement."""
    backend = duel.records[record.baseline]
    first, later = _subtypes(backend), _latest(backend)
    voxels = differing = 0
    for case in record.cases:
        if case.name in later:
            masks = directory.prediction(backend.name, case.name), directory.repeat(backend.name, case.name)
            size, wrong = accuracy.disagreement(case, *masks)
            voxels, differing = voxels + size, differing + wrong
    if voxels:
        noise = {"voxels": voxels, "differing_voxels": differing}
        if record.classifies:
            noise["class_flips"] = sum(first[name] != sample.subtype for name, sample in later.items())
        duel.put(replace(backend, noise=noise))


def _latest(backend: VariantRecord) -> dict[str, Sample]:
    return {
        s.case: s
        for s in backend.samples
        if (s.phase, s.round) != (INTERLEAVED, 0) and s.phase in (INTERLEAVED, CONFIRMATION)
    }


def _finish(record: RunRecord, duel: Duel, directory: RunDirectory) -> None:
    """Write everything that follows from the samples; also of a run that was cut short."""
    duel.keep(())
    for backend in list(duel.records.values()):
        if backend.status == PENDING and record.status == COMPLETE:
            duel.put(replace(backend, status=OK))
    for backend in duel.records.values():
        subtypes = {case: subtype for case, subtype in _subtypes(backend).items() if subtype is not None}
        if subtypes:
            path = directory.prediction(backend.name, "x").with_name("subtype_results.csv")
            write_subtypes(path, sorted(subtypes.items()))
    directory.save_run(record)
    if record.status == COMPLETE:
        directory.drop_repeats()
    current = _current(record, duel)
    write_text(directory.folder / "cases.csv", cases_csv(current))
    write_text(directory.folder / "report.md", render(summarise(current), "markdown"))


def _current(record: RunRecord, duel: Duel) -> Run:
    backends = tuple(duel.records[name] for name in record.settings.variants)
    return Run(record, backends, duel.folder)
