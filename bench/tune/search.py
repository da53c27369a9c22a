"""The search: Optuna proposes recipes, those that are measured tell it where to go on.

First come the recipes that differ from the reference in one setting, then those of a tree-structured Parzen estimator
with two objectives, time and the share of the margins that is used up, and lost accuracy as a constraint (Bergstra et
al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011; Ozaki et al., "Multiobjective Tree-Structured Parzen
Estimator", JAIR 73, 2022).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.progress import Progress
from bench.schedule.run_directory import write_text
from bench.tune.space import Space, Tile
from reports.decision.tuning import FAILED, MEASURED, Trial, best_of
from reports.decision.verdict import LOST
from reports.formatting import factor
from reports.records.record import VariantSettings
from reports.records.store import RecordError, json_values, record_from_json

if TYPE_CHECKING:
    import optuna

STARTUP = 8  # trials before the estimator proposes any
MOST_REPEATS = 50  # proposals in a row that were measured before: then the space has nothing new
_WORST = 10.0  # of the second objective, for what is not known

Measure = Callable[[int, VariantSettings, Trial | None], Trial]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a search ends.

    Attributes:
        seconds: that its trials may take together. trials: how many there may be at most, None for any number.
    """

    seconds: float
    trials: int | None = None

    def is_spent(self, trials: Sequence[Trial]) -> bool:
        """Whether no further one may begin."""
        taken = sum(trial.seconds for trial in trials)
        return taken >= self.seconds or (self.trials is not None and len(trials) >= self.trials)


class Log:
    """The trials so far, a line each in a file that is appended to; a last line that was cut off is taken out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = dict(_read(path))
        self.trials: list[Trial] = list(lines.values())
        if path.exists():
            write_text(path, "".join(f"{line}\n" for line in lines))

    def append(self, trial: Trial) -> None:
        """Keep a trial."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(json_values(trial)) + "\n")
        self.trials.append(trial)


def search(
    space: Space, reference: VariantSettings, log: Log, measure: Measure, budget: Budget, seed: int, progress: Progress
) -> None:
    """Measure recipes of the `space` until the budget is spent or nothing new is proposed; those in the `log` count.

    Args:
        reference: the recipe beside which all are timed; the first trial, without being measured.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=STARTUP, seed=seed)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    for trial in log.trials:
        study.add_trial(_frozen(space, trial))
    neighbours = space.neighbours(reference)
    tried = {str(own): own.tile for own in neighbours if own.tile != reference.tile}
    repeats = 0
    while not budget.is_spent(log.trials) and repeats < MOST_REPEATS:
        known = {str(trial.settings): trial for trial in log.trials}
        own, asked = _next(space, study, neighbours, known)
        before, lossy = known.get(str(own)), own.tile in _lossy_tiles(tried, known)
        if asked is not None and (before is not None or lossy):
            repeats += 1
            if before is not None:
                _tell(study, asked, before)
            else:
                asked.set_constraint("accuracy", 1.0)
                study.tell(asked, [0.0, _WORST])
            continue
        repeats = 0
        trial = measure(len(log.trials) + 1, own, best_of(log.trials))
        log.append(trial)
        progress.note(_line(trial))
        if asked is None:
            study.add_trial(_frozen(space, trial))
        else:
            _tell(study, asked, trial)


def _lossy_tiles(tried: Mapping[str, Tile | None], known: Mapping[str, Trial]) -> set[Tile | None]:
    """Tiles with which the accuracy was lost, or nothing was built, in the recipes `tried`: they alone were new."""
    lossy = (own for own in tried if own in known and (known[own].accuracy == LOST or known[own].state == FAILED))
    return {tried[own] for own in lossy}


def _next(
    space: Space, study: "optuna.Study", neighbours: list[VariantSettings], known: Mapping[str, Trial]
) -> "tuple[VariantSettings, optuna.Trial | None]":
    """The next recipe, and the study's trial where that proposed it."""
    while neighbours:
        own = neighbours.pop(0)
        if str(own) not in known:
            return own, None
    asked = study.ask()

    def choose(name: str, values: Sequence[Any]) -> Any:
        labels = {str(value): value for value in values}
        return labels[asked.suggest_categorical(name, list(labels))]

    return space.recipe(choose), asked


def _tell(study: "optuna.Study", asked: "optuna.Trial", trial: Trial) -> None:
    from optuna.trial import TrialState

    if trial.state == FAILED or (values := _objectives(trial)) is None:
        study.tell(asked, state=TrialState.FAIL)
        return
    asked.set_constraint("accuracy", _constraint(trial))
    study.tell(asked, values)


def _objectives(trial: Trial) -> list[float] | None:
    """Log time over the reference's, and the share of a margin that is used up; None of what was not timed.

    What was pruned is known to be slower than the best; it counts with the time that it had.
    """
    if trial.speedup is None:
        return None
    return [-trial.log_speedup, _WORST if trial.margin_used is None else min(trial.margin_used, _WORST)]


def _constraint(trial: Trial) -> float:
    """Above 0 where the accuracy is lost."""
    return 1.0 if trial.accuracy == LOST else 0.0


def _frozen(space: Space, trial: Trial) -> "optuna.trial.FrozenTrial":
    """A trial that the study did not propose, as if it had."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    distributions: dict[str, BaseDistribution] = {}
    chosen = space.values_of(trial.settings)
    parameters: dict[str, Any] = {}

    def as_chosen(name: str, values: Sequence[Any]) -> Any:
        distributions[name], parameters[name] = CategoricalDistribution([str(v) for v in values]), str(chosen[name])
        return chosen[name]

    space.recipe(as_chosen)
    values = _objectives(trial)
    if trial.state == FAILED or values is None:
        return create_trial(state=TrialState.FAIL, params=parameters, distributions=distributions)
    return create_trial(
        values=values, params=parameters, distributions=distributions, constraints={"accuracy": _constraint(trial)}
    )


def _line(trial: Trial) -> str:
    outcome = trial.reason
    if trial.state == MEASURED:
        outcome = f"{factor(trial.speedup)} the reference, accuracy {trial.accuracy}"
    return f"trial {trial.number}: {trial.settings}: {outcome}"


def _read(path: Path) -> Iterator[tuple[str, Trial]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, RecursionError, RecordError):
            yield line, record_from_json(Trial, json.loads(line))
