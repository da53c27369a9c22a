"""The search: what it proposes, remembers and ends by, on made-up recipes whose speed is known."""

import json
from dataclasses import replace
from math import exp, log

import pytest

from bench.progress import Progress
from bench.tune.search import Budget, Log, search
from bench.tune.space import Space, with_values
from bench.tune.steps import steps
from reports.decision.tuning import FAILED, MEASURED, PRUNED, Trial, best_of
from reports.decision.verdict import KEPT, LOST
from reports.records.record import VariantSettings
from tests.bench.tune.test_space import SPACE, some

REFERENCE = some(backend="openvino-int8")
FIRST = Trial(number=1, settings=REFERENCE, state=MEASURED, speedup=1.0, accuracy=KEPT, promising=True, margin_used=0.0)


class Quiet(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, task, total):
        pass

    def advance(self, doing=""):
        pass

    def note(self, line):
        self.notes.append(line)

    def stand(self, rows):
        pass


def gains(own: VariantSettings) -> float:
    """The true log speedup: two streams and a body bring most; a quarter of overlap is fast and loses accuracy."""
    gain = 0.2 * (own.streams == 2) + 0.15 * (own.roi == "body") + 0.1 * ("drop-biases" in own.rewrites)
    return gain + 0.8 * (own.overlap == 0.25) - 0.5 * (own.backend != "openvino-int8") - 0.3 * (own.threads == 1)


class World:
    """Measures by `gains`."""

    def __init__(self, failing: str = "") -> None:
        self.asked: list[VariantSettings] = []
        self.failing = failing

    def __call__(self, number: int, own: VariantSettings, best: Trial | None) -> Trial:
        self.asked.append(own)
        if self.failing and own.backend == self.failing:
            return Trial(number=number, settings=own, state=FAILED, reason="broken", seconds=1.0)
        speedup = 2.718281828 ** gains(own)
        lost = own.overlap == 0.25
        trial = Trial(
            number=number, settings=own, state=MEASURED, speedup=speedup, cases=24,
            accuracy=LOST if lost else KEPT, promising=not lost,
            margin_used=4.0 if lost else 0.1, seconds=1.0,
        )  # fmt: skip
        if best is not None and trial.log_speedup < best.log_speedup - 0.2:
            return Trial(
                number=number, settings=own, state=PRUNED, speedup=speedup, cases=5, reason="slower", seconds=0.5
            )
        return trial


def found(tmp_path, budget: Budget, world: World, seed: int = 0) -> tuple[Log, Quiet]:
    trials, progress = Log(tmp_path / "trials.jsonl"), Quiet()
    if not trials.trials:
        trials.append(FIRST)
    search(SPACE, REFERENCE, trials, world, budget, seed, progress)
    return trials, progress


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fastest_recipe_whose_accuracy_is_kept_is_found(tmp_path, seed):
    trials, _ = found(tmp_path, Budget(seconds=1e9, trials=70), World(), seed)
    best = best_of(trials.trials)
    assert best.speedup == pytest.approx(2.718281828**0.45), best.settings
    assert (best.settings.streams, best.settings.roi, best.settings.overlap) == (2, "body", 0.5)
    assert "drop-biases" in best.settings.rewrites
    faster = [trial for trial in trials.trials if trial.speedup and trial.log_speedup > best.log_speedup]
    assert {trial.accuracy for trial in faster} == {LOST}, "what is faster was seen and not taken"


def test_first_come_recipes_a_setting_apart_and_none_is_measured_twice(tmp_path):
    world = World()
    found(tmp_path, Budget(seconds=1e9, trials=60), world)
    neighbours = SPACE.neighbours(REFERENCE)
    assert world.asked[: len(neighbours)] == neighbours
    assert len({str(own) for own in world.asked}) == len(world.asked)


def test_a_budget_of_time_ends_it(tmp_path):
    trials, _ = found(tmp_path, Budget(seconds=7.5), World())
    taken = [trial.seconds for trial in trials.trials]
    assert sum(taken[:-1]) < 7.5 <= sum(taken)


def test_it_goes_on_from_its_file_also_where_a_line_was_cut_off(tmp_path):
    before, _ = found(tmp_path, Budget(seconds=1e9, trials=20), World())
    path = tmp_path / "trials.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:19]) + lines[19][:40])
    world = World()
    after, _ = found(tmp_path, Budget(seconds=1e9, trials=25), world)
    assert after.trials[:19] == before.trials[:19]
    assert len(after.trials) == 25
    assert len(world.asked) == 6
    assert all(json.loads(line) for line in path.read_text().splitlines()), "the half line is gone"


def test_what_fails_is_a_trial_with_its_reason_and_the_search_goes_on(tmp_path):
    trials, progress = found(tmp_path, Budget(seconds=1e9, trials=40), World(failing="openvino-fp32"))
    failed = [trial for trial in trials.trials if trial.state == FAILED]
    assert {trial.reason for trial in failed} == {"broken"}
    assert best_of(trials.trials).speedup > 1.2
    assert any(line.endswith("broken") for line in progress.notes)


def test_a_space_of_a_few_recipes_is_done_when_all_were_measured(tmp_path):
    alone = {name: values[:1] for name, values in SPACE.settings.items()} | {"streams": (None, 2), "rewrites": ()}
    space = Space(("openvino-fp32",), alone, SPACE.usual)
    reference, world = space.recipe(with_values({})), World()
    trials = Log(tmp_path / "trials.jsonl")
    trials.append(replace(FIRST, settings=reference))
    search(space, reference, trials, world, Budget(seconds=1e9), 0, Quiet())
    assert [own.streams for own in world.asked] == [2]


def test_a_recipe_of_the_users_is_where_the_search_and_the_steps_begin(tmp_path):
    """Less overlap than its own loses accuracy, which says nothing of its tile."""
    own = replace(REFERENCE, overlap=0.33, batch=5, tile=(20, 20, 16), threads=3)
    space, world = SPACE.holding([own]), World()
    trials = Log(tmp_path / "trials.jsonl")
    trials.append(replace(FIRST, settings=own))
    search(space, own, trials, world, Budget(seconds=1e9, trials=70), 0, Quiet())
    best = best_of(trials.trials)
    assert best.speedup == pytest.approx(exp(0.45)), "as without values of its own"
    alike = [each for each in world.asked if (each.overlap, each.batch, each.threads) == (0.33, 5, 3)]
    assert {each.streams for each in alike} >= {None, 1, 2}
    assert sum(each.tile == own.tile for each in world.asked[-30:]) > 0, "its tile is not taken for a lossy one"
    first = steps(space, trials.trials[0], best, trials, world)[0].trial.settings
    assert (first.overlap, first.batch, first.tile, first.threads) == (0.33, 5, (20, 20, 16), 3)


def test_steps_lead_from_the_reference_to_the_best_and_say_what_each_brings(tmp_path):
    world = World()
    trials, _ = found(tmp_path, Budget(seconds=1e9, trials=70), world)
    best = best_of(trials.trials)
    taken = steps(SPACE, trials.trials[0], best, trials, world)
    assert [step.setting for step in taken][:3] == ["streams", "roi", "rewrite drop-biases"], "the largest first"
    assert taken[-1].trial.settings == best.settings
    before, brought = 0.0, []
    for step in taken:
        brought.append(step.trial.log_speedup - before)
        before = step.trial.log_speedup
    assert brought[:3] == pytest.approx([0.2, 0.15, 0.1])
    assert sum(brought) == pytest.approx(log(best.speedup))
