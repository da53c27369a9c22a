"""What each change of the best recipe brings: recipes on the way from the reference to it, a setting more in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.tune.search import Log, Measure
from bench.tune.space import Space, with_values
from reports.decision.tuning import MEASURED, Trial
from reports.records.record import VariantSettings


@dataclass(frozen=True)
class Step:
    """A setting that was changed, to which value, and the trial with all changes so far."""

    setting: str
    value: Any
    trial: Trial


def steps(space: Space, reference: Trial, best: Trial, log: Log, measure: Measure) -> list[Step]:
    """The changes between both, those first that bring most alone, as far as the search has measured that.

    Recipes in between that were not measured yet are measured now.
    """
    before, after = space.values_of(reference.settings), space.values_of(best.settings)
    changed = [name for name, value in after.items() if before.get(name, value) != value or name not in before]
    taken: list[Step] = []
    values = dict(before)
    for name in sorted(changed, key=lambda name: -_alone(space, log.trials, before, name, after[name])):
        values[name] = after[name]
        own = space.recipe(with_values(values))
        if not taken or str(own) != str(taken[-1].trial.settings):
            taken.append(Step(name, after[name], _trial(own, log, measure)))
    return taken


def _trial(own: VariantSettings, log: Log, measure: Measure) -> Trial:
    """The one of this recipe that was measured to the end; it is measured now where there is none."""
    for trial in log.trials:
        if str(trial.settings) == str(own) and trial.state == MEASURED:
            return trial
    trial = measure(len(log.trials) + 1, own, None)
    log.append(trial)
    return trial


def _alone(space: Space, trials: Sequence[Trial], before: Mapping[str, Any], name: str, value: Any) -> float:
    """The log speedup of the reference with this change alone; -1 where it was not measured."""
    own = str(space.recipe(with_values({**before, name: value})))
    return next((trial.log_speedup for trial in trials if str(trial.settings) == own and trial.speedup), -1.0)
