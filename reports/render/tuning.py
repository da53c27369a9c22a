"""The report of a search for the fastest recipe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.charts.tuning import tuning_chart
from reports.decision.speed import Speed, interleaved_speed
from reports.decision.tuning import FAILED, MEASURED, PRUNED, Trial, speedup_of, undecided_faster
from reports.formatting import NOT_MEASURED, bounds, command_line, count, factor
from reports.records.store import Run
from reports.render.commonmark import bullets, section, table, text
from reports.summary.summarise import summarise

REPORT, CHART = "tuning.md", "tuning.svg"
_EXPECTED = "expected to be kept on the evaluation cases"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a search found.

    Attributes:
        reference: the shipped variant beside which everything was timed, by name.
        best, front, trials: the first of `trials` is the reference.
        steps: from the reference to the best: which setting, its value, and the trial with all changes so far.
        tuned_on: which cases the search saw.
        recipe: as a TOML file; `name`: its name in there, and in the confirming run.
        without_bounds: which scores had too few tuning cases for a bound, a sentence; empty where none had.
    """

    reference: str
    best: Trial
    front: tuple[Trial, ...]
    trials: tuple[Trial, ...]
    steps: tuple[tuple[str, Any, Trial], ...]
    tuned_on: str
    recipe: str
    name: str
    without_bounds: str = ""


def tuning_files(tuned: Tuned, confirmed: Run) -> Mapping[str, str | bytes]:
    """The report and its chart by their names; `confirmed` is the run over the evaluation cases."""
    chart = tuning_chart(tuned.trials, tuned.front, tuned.best, tuned.reference)
    picture = f"![{chart.title}]({CHART})" if chart else ""
    parts = [
        f"# {text(summarise(confirmed).headline)}",
        bullets(answers(tuned, confirmed)),
        picture,
        section("The recipe", f"```toml\n{tuned.recipe.strip()}\n```"),
        _steps(tuned),
        _front(tuned),
    ]
    files: dict[str, str | bytes] = {REPORT: "\n\n".join(part for part in parts if part) + "\n"}
    return files | ({CHART: chart.file} if chart else {})


def over_shipped(tuned: Tuned, confirmed: Run) -> Speed | None:
    """The recipe against the fastest shipped variant, on evaluation cases; None where it is that variant."""
    names = {variant.name for variant in confirmed.variants}
    if tuned.reference not in names or tuned.reference == tuned.name:
        return None
    return interleaved_speed(confirmed, tuned.name, tuned.reference)


def answers(tuned: Tuned, confirmed: Run, folder: Path = Path()) -> list[str]:
    """What a reader asks first, in sentences of Markdown; `folder`: of the search, from where the reader is."""
    beside = over_shipped(tuned, confirmed)
    states = [trial.state for trial in tuned.trials]
    number = {state: states.count(state) for state in (MEASURED, PRUNED, FAILED)}
    run_it = command_line("bench", "run", "--recipes", folder / "recipe.toml")
    predict_it = command_line("bench", "predict", folder / "confirmation", "INPUT", "--out", "DIR")
    return [
        _against_shipped(tuned, beside),
        *_left_undecided(tuned),
        f"Searched on {text(tuned.tuned_on)}; held once against {count(len(confirmed.record.cases), 'case')} that the "
        "search did not see.",
        f"{count(len(states), 'trial')}: {number[MEASURED]} measured to the end, {number[PRUNED]} ended early as they "
        f"were slower than the best or lost accuracy, {number[FAILED]} failed.",
        f"To use it: `{run_it}` with the search's options, or `{predict_it}`.",
    ]


def _against_shipped(tuned: Tuned, beside: Speed | None) -> str:
    shipped = f"{text(tuned.reference)}, the fastest shipped variant {_whose_accuracy(tuned.trials[0])}"
    if tuned.best.number == tuned.trials[0].number:
        return f"The recipe is {shipped}: on that condition nothing that was tried is faster by more than 2 %."
    if beside is None or not beside.cases:
        return f"On the tuning cases it was {factor(tuned.best.speedup)} as fast as {shipped}."
    s = beside.speedup
    return (
        f"On {count(beside.cases, 'case')} that the search did not see it is "
        f"{factor(s.estimate)}{bounds(s.low, s.high, 2)} as fast as {shipped}."
    )


def _whose_accuracy(trial: Trial) -> str:
    """By which rule of `best_of` it was chosen."""
    return f"whose accuracy is {_EXPECTED if trial.promising else 'not lost'}"


def _left_undecided(tuned: Tuned) -> Iterator[str]:
    """What the tuning cases were too few to decide: scores, the recipe, and faster trials that were not taken."""
    if tuned.without_bounds:
        yield f"{text(tuned.without_bounds)}."
    if not tuned.best.promising:
        yield f"Its accuracy is not lost, and not {_EXPECTED}: {text(tuned.best.accuracy_reason)}."
    faster = undecided_faster(tuned.trials, tuned.best)
    if faster:
        trial = faster[0]
        yield (
            f"Faster, but with an accuracy that is not lost and not {_EXPECTED}: {count(len(faster), 'trial')}, the "
            f"fastest of them trial {trial.number} ({text(trial.settings)}; {factor(trial.speedup)} as fast as "
            f"{text(tuned.reference)}): {text(trial.accuracy_reason)}."
        )


def _steps(tuned: Tuned) -> str:
    if not tuned.steps:
        return ""
    rows, before = [], tuned.trials[0]
    for setting, value, trial in tuned.steps:
        known = trial.state == MEASURED
        gain = factor(speedup_of(trial, before)) if known else NOT_MEASURED
        rows.append([text(setting), text(_shown(value)), gain, _speedup(trial), text(trial.accuracy or trial.reason)])
        before = trial if known else before
    head = ["change", "to", "brings", f"all so far, beside {text(tuned.reference)}", "accuracy"]
    note = "On the tuning cases, each row with all changes above it. A difference below 2 % may be chance."
    return section("What each step brings", table(head, rows, (0, 1, 4)), note)


def _front(tuned: Tuned) -> str:
    head = ["trial", "recipe", f"times as fast as {text(tuned.reference)}", "margin used", "accuracy"]
    beside = [tuned.best] if tuned.best.number not in {trial.number for trial in tuned.front} else []
    rows = [
        [_number(trial, tuned), text(str(trial.settings)), _speedup(trial), _margin(trial), text(trial.accuracy)]
        for trial in (*tuned.front, *beside)
    ]
    note = (
        "On the tuning cases: what no other trial beats in both time and accuracy, and in bold the recipe: to within "
        f"2 % the fastest {_whose_accuracy(tuned.best)}. *Margin used*: the largest share of its margin that "
        "a mean score fell by, 0 % where none fell. All trials are in `trials.jsonl`, their samples in "
        "`search`. The best of many looks better here than it is, so that none of these figures is a claim."
    )
    return section("Time against accuracy", table(head, rows, (1, 4)), note)


def _number(trial: Trial, tuned: Tuned) -> str:
    return f"**{trial.number}**" if trial.number == tuned.best.number else str(trial.number)


def _speedup(trial: Trial) -> str:
    if trial.low is None or trial.high is None or trial.low == trial.high:
        return factor(trial.speedup)
    return factor(trial.speedup) + bounds(trial.low, trial.high, 2)


def _margin(trial: Trial) -> str:
    return NOT_MEASURED if trial.margin_used is None else f"{100 * max(0.0, trial.margin_used):.0f} %"


def _shown(value: Any) -> str:
    if value is None:
        return "the usual"
    if isinstance(value, bool):
        return "on" if value else "off"
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
