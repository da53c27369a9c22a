"""The job: shipped variants on tuning cases -> search -> the best recipe, confirmed once on evaluation cases."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench import run
from bench.errors import InputError, InterruptedRunError
from bench.machine import host
from bench.plan.cache import cache_folder
from bench.plan.controlled_settings import model_options_of
from bench.plan.plan import Plan, make_plan
from bench.plan.request import Request
from bench.plan.resumption import recorded_networks, refuse_changed_files, refuse_elsewhere
from bench.progress import Progress, Unshown
from bench.schedule.limits import Limits
from bench.schedule.run_directory import create_folder, locked, write_files, write_text
from bench.tune.cases import Parts, part
from bench.tune.recipe_file import recipe_text
from bench.tune.search import Budget, Log, search
from bench.tune.space import Space, space_of, tiles_of_less_work
from bench.tune.steps import Step, steps
from bench.tune.trials import Shipped, opened
from bench.worker.process import WorkerError, WorkerProcess
from bench.worker.questions import step_between_tiles
from engines import BACKENDS
from engines.base import Target
from models.model import Model
from reports.decision.accuracy import compare_accuracy
from reports.decision.comparison import candidates, compare
from reports.decision.speed import interleaved_speedup
from reports.decision.tuning import Trial, best_of, front, judged, without_bounds
from reports.decision.verdict import Claim
from reports.formatting import command_line, count
from reports.records.record import COMPLETE, OK, Settings, VariantSettings
from reports.records.store import RUN_FILE, Run, read_run
from reports.render.tuning import REPORT, Tuned, tuning_files
from reports.stats.bootstrap import MIN_CASES

RECIPE = "tuned"
SHIPPED, SEARCH, CONFIRMATION = "shipped", "search", "confirmation"  # run directories of a search
TRIALS_FILE, RECIPE_FILE = "trials.jsonl", "recipe.toml"
STEPS = (8, 16, 32)  # between sides of tiles: what poolings most often divide by
LEAST_TIMEOUT_S, LONGEST = 60.0, 0.1  # for a step of a trial: seconds, and the share of the budget where that is more
WORTH_A_TRY = 0.5  # of the fastest shipped variant's speedup: slower backends are left out of the space


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is asked of a search beyond what a run is asked for.

    Attributes:
        budget: of the search itself, without the shipped variants before it and the confirmation after it.
        tuning_split: whose cases it may see; None for the training split where that will do.
    """

    budget: Budget
    tuning_split: str | None = None


def tune(request: Request, wanted: Search, out: Path | None, resume: bool, progress: Progress) -> tuple[Path, Tuned]:
    """Search for the fastest recipe, confirm it, and return the search's folder and what was found.

    With `resume`, what an earlier search of the same request left in `out` counts.

    Raises:
        InputError and its like: something cannot be used; nothing was lost.
        BackendLostError: the baseline or the reference failed.
        InterruptedRunError: it was stopped; what was measured is saved.
    """
    folder = _folder(out, resume)
    try:
        with locked(folder, "another search is at work there"):
            parts = part(request, wanted.tuning_split, progress)
            shipped = _shipped(parts, folder, progress)
            if not _is_confirming(folder):
                _refuse_unconfirmable(parts.evaluation, shipped)
            few = _without_bounds(shipped.run)
            if few and not _is_confirming(folder):
                progress.note(f"{few}; more tuning cases would give one")
            log = Log(folder / TRIALS_FILE)
            if not log.trials:
                log.append(_reference(shipped))
            space = _space(shipped, log)
            budget = replace(wanted.budget, seconds=0.0) if _is_confirming(folder) else wanted.budget
            best, taken = _searched(shipped, space, log, budget, folder, progress)
            remark = (
                f"the best of {count(len(log.trials), 'trial')} of bench tune; its verdict is that of the run in "
                f"{CONFIRMATION}"
            )
            recipe = recipe_text(RECIPE, best.settings, remark)
            write_text(folder / RECIPE_FILE, recipe)
            confirmed = _confirmed(parts.evaluation, shipped, best, folder, progress)
            tuned = Tuned(
                reference=shipped.reference, best=best, front=tuple(front(log.trials)), trials=tuple(log.trials),
                steps=tuple((step.setting, step.value, step.trial) for step in taken), tuned_on=parts.remark,
                recipe=recipe, name=RECIPE, without_bounds=few,
            )  # fmt: skip
            write_files(folder, tuning_files(tuned, read_run(confirmed)))
            return folder, tuned
    except (KeyboardInterrupt, InterruptedRunError):
        raise InterruptedRunError(
            f"interrupted; what was measured is kept. To finish it: the same command with "
            f"{command_line('--resume', '--out', folder)}"
        ) from None


def _folder(out: Path | None, resume: bool) -> Path:
    if resume:
        if out is None or not (out / SHIPPED).is_dir():
            raise InputError(f"--resume: {out or 'no --out'} holds no search; name the folder of one with --out")
        if _is_confirmed(out) and (out / REPORT).exists():
            raise InputError(f"{out}: this search is complete, and judged once; see {REPORT} there, or begin another")
        return out
    folder = out or Path("tuning") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    create_folder(folder)
    return folder


def _is_confirming(folder: Path) -> bool:
    """Whether the evaluation cases have been looked at: then nothing is searched any more."""
    return (folder / CONFIRMATION / RUN_FILE).exists()


def _is_confirmed(folder: Path) -> bool:
    """Whether the confirmation came to its end, so that only the report may be missing."""
    return _is_confirming(folder) and read_run(folder / CONFIRMATION).record.status == COMPLETE


def _shipped(parts: Parts, folder: Path, progress: Progress) -> Shipped:
    """Everything that is shipped on the tuning cases, in one round of a race."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    asked = replace(parts.tuning, backends=parts.tuning.backends or "all", recipes=parts.tuning.recipes or "builtin")
    plan = make_plan(asked, SHIPPED, now, progress)
    place = folder / SHIPPED
    if (place / RUN_FILE).exists() and (before := read_run(place)).record.status == COMPLETE:
        _refuse_other(before, plan, place)
    else:
        shutil.rmtree(place, ignore_errors=True)
        run.start(plan, place, progress, Limits(rounds=1, peak=False, confirmation=False))
    ran = read_run(place)
    return Shipped(ran, _fastest(ran, parts.evaluated), parts.evaluated)


def _refuse_other(before: Run, plan: Plan, place: Path) -> None:
    then, now = before.record, plan.record
    refuse_elsewhere(then, now.host, now.versions)
    refuse_changed_files(then.settings, f"{place}: ")
    same = (
        ("the cases", then.data.sha256, now.data.sha256),
        ("the weights", then.checkpoint.weights_sha256, now.checkpoint.weights_sha256),
        ("the settings", _without_files(then.settings), _without_files(now.settings)),
    )
    for what, early, late in same:
        if early != late:
            raise InputError(f"{place}: {what} are not those that this search began with; begin another one")


def _without_files(settings: Settings) -> Settings:
    return replace(settings, variants={name: own.without_files for name, own in settings.variants.items()})


def _fastest(ran: Run, evaluated: int) -> str:
    """The variant that recipes are timed beside: of the baseline and all that are faster, the best as of trials."""
    names = [ran.record.baseline]
    trials = [_as_trial(ran, ran.record.baseline, evaluated)]
    for variant in candidates(ran):
        if variant.settings.command is not None:
            continue  # whose process no recipe can be timed beside as often
        trial = _as_trial(ran, variant.name, evaluated, len(names) + 1)
        if len(variant.scores) == len(ran.record.cases) and trial.log_speedup > 0:
            names.append(variant.name)
            trials.append(trial)
    best = best_of(trials)
    return ran.record.baseline if best is None else names[best.number - 1]


def _reference(shipped: Shipped) -> Trial:
    """The reference as a trial, which is as fast as itself."""
    own = shipped.run.variant(shipped.reference)
    cases = len({sample.case for sample in own.samples})
    itself = _as_trial(shipped.run, shipped.reference, shipped.evaluated)
    return replace(itself, speedup=1.0, low=1.0, high=1.0, cases=cases)


def _as_trial(ran: Run, name: str, evaluated: int, number: int = 1) -> Trial:
    """A shipped variant, the baseline as well: what these cases leave open of it they leave open of every recipe."""
    compared, claim = compare(ran, name), Claim.of(ran.record.settings)
    return judged(number, ran.variant(name).settings, compared.case, compared.accuracy, claim, evaluated)


def _without_bounds(ran: Run) -> str:
    """Which scores too few tuning cases have, and what that means, a sentence; empty where there is none."""
    few = without_bounds(compare_accuracy(ran, ran.record.baseline))
    scores = ", ".join(f"{label} ({count(cases, 'case')})" for label, cases in few.items())
    return scores and (
        f"On fewer than {MIN_CASES} tuning cases, so that the search goes by the mean, without a bound: {scores}"
    )


def _space(shipped: Shipped, log: Log) -> Space:
    """All that may be tried, with the values of the reference and, on another start, of what was tried before."""
    ran = shipped.run
    settings, networks = ran.record.settings, recorded_networks(ran.record)
    model = networks.model
    usual = VariantSettings(
        backend=next(iter(BACKENDS)), roi=settings.roi, overlap=settings.overlap, batch=settings.batch, tta=settings.tta
    )
    threads = [settings.threads, max(1, settings.threads // 2), len(host.allowed_cpus())]
    tiles = [] if model.program is not None else _tiles(ran, model, networks.paths[0])
    space = space_of(model, usual, _worth_a_try(shipped), tiles, settings.device, list(dict.fromkeys(threads)))
    return space.holding(trial.settings for trial in log.trials)


def _tiles(ran: Run, model: Model, path: Path) -> list[tuple[int, int, int]]:
    """Other tiles that the network takes and that spare work; none where volumes are resampled before."""
    settings, checkpoint = ran.record.settings, ran.record.checkpoint
    if model.plans is not None or model.bundle is not None or settings.protocol != "sliding-window":
        return []
    target = Target("cpu", settings.tile, 1, settings.threads, cache_folder(), channels=model.channels)
    options = model_options_of(checkpoint)
    with WorkerProcess(settings.threads) as worker, suppress(WorkerError):
        arguments = (path, options, checkpoint.widened_to, target, STEPS)
        step = worker.call(step_between_tiles, *arguments, timeout_s=settings.timeout_s)
        shapes = [case.shape for case in ran.record.cases]
        return tiles_of_less_work(settings.tile, shapes, settings.overlap, step) if step else []
    return []


def _worth_a_try(shipped: Shipped) -> Sequence[str]:
    """Backends of the variants that are half as fast as the fastest at the least, the reference's own first."""
    ran = shipped.run
    fastest = {own.name: interleaved_speedup(ran, own.name).estimate for own in candidates(ran) if own.status == OK}
    most = max((value for value in fastest.values() if value == value), default=1.0)
    names = sorted((name for name, value in fastest.items() if value >= WORTH_A_TRY * most), key=lambda n: -fastest[n])
    backends = [ran.variant(name).settings.backend for name in (shipped.reference, *names)]
    return [backend for backend in dict.fromkeys(backends) if backend in BACKENDS]


def _searched(
    shipped: Shipped, space: Space, log: Log, budget: Budget, folder: Path, progress: Progress
) -> tuple[Trial, list[Step]]:
    """The best of the search, and the steps that lead to it."""
    number = 1 + sum(1 for _ in (folder / SEARCH).glob("*"))
    reference = log.trials[0]
    longest = max(LEAST_TIMEOUT_S, LONGEST * budget.seconds)
    timeout_s = min(shipped.run.record.settings.timeout_s, longest)
    with opened(shipped, folder / SEARCH / str(number), timeout_s, progress) as trials:
        search(space, reference.settings, log, trials.measure, budget, shipped.run.record.settings.seed, progress)
        best: Trial | None = None
        taken: list[Step] = []
        while best is not (best := _best(log)):  # a step to the best may turn out to be better
            taken = [] if best is reference else steps(space, reference, best, log, trials.measure)
    return best, taken


def _best(log: Log) -> Trial:
    best = best_of(log.trials)
    assert best is not None, "the reference is measured, and its accuracy not lost"
    return best


def _confirmed(evaluation: Request, shipped: Shipped, best: Trial, folder: Path, progress: Progress) -> Path:
    """The one run over the evaluation cases: the recipe, and the fastest that is shipped beside it."""
    place = folder / CONFIRMATION
    if _is_confirmed(folder):
        return place
    if _is_confirming(folder):
        return run.resume(place, progress, limits=Limits(rounds=1))
    plan = _confirmation_plan(evaluation, shipped, best.settings, beside=best.number != 1, progress=progress)
    chosen = replace(plan, record=replace(plan.record, confirmed=RECIPE))  # beforehand, whatever these cases show
    return run.start(chosen, place, progress, Limits(rounds=1))


def _refuse_unconfirmable(evaluation: Request, shipped: Shipped) -> None:
    """Look at the evaluation cases and at everything that is asked of them, before hours are spent on the search.

    Raises:
        InputError: the confirmation would be refused; or the baseline is an own command, which no recipe can be timed
            beside.
    """
    ran = shipped.run
    if ran.variant(shipped.reference).settings.command is not None:
        raise InputError(f"--baseline {shipped.reference}: an own command; a search needs a backend to begin with")
    own = ran.variant(shipped.reference).settings
    _confirmation_plan(evaluation, shipped, own, beside=True, progress=Unshown())


def _confirmation_plan(
    evaluation: Request, shipped: Shipped, own: VariantSettings, *, beside: bool, progress: Progress
) -> Plan:
    """The recipe on the evaluation cases; `beside` it the reference, and the baseline where that is a recipe too."""
    ran = shipped.run
    others = {ran.record.baseline} if ran.variant(ran.record.baseline).settings.recipe else set()
    others |= {shipped.reference} if beside and shipped.reference != ran.record.baseline else set()
    variants = {name: ran.variant(name).settings for name in sorted(others)} | {RECIPE: replace(own, recipe=True)}
    asked = replace(evaluation, backends="", recipes=None, variants=variants)
    return make_plan(asked, CONFIRMATION, datetime.now(UTC).isoformat(timespec="seconds"), progress)
