"""The confirmation: the chosen variant against the baseline afresh, in several newly launched pairs of processes."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from bench.progress import Progress
from bench.schedule.interleave import Interleaver, spread_out
from bench.schedule.scoring import score_predictions
from bench.schedule.store import RunStore
from reports.decision.confirmation_plan import ConfirmationPlan, Cost, soonest
from reports.decision.outcome import choose
from reports.decision.speed import case_ns
from reports.decision.verdict import Claim
from reports.records.record import CONFIRMATION as PHASE
from reports.records.record import INTERLEAVED, PENDING, Case, ConfirmationRecord, RunRecord
from reports.stats.bootstrap import MIN_CASES


def to_confirm(record: RunRecord, interleaver: Interleaver, progress: Progress) -> str | None:
    """The variant to confirm; None if all are refuted or none was timed.

    One that has left the rounds early first runs the cases that it lacks, so that its accuracy rests on all of them.
    Where that shows a loss, or it fails, the next one is chosen; one that was fixed beforehand stays.
    """
    store, claim = interleaver.store, Claim.of(record.settings)
    while True:
        name = record.confirmed or choose(store.run(record), claim)
        if name is None or store.records[name].status != PENDING or record.settings.variants[name].one_call:
            return name
        lacking = store.lacks(name, record.cases)
        if not lacking:
            return name
        run_lacking(record, interleaver, name, lacking, progress)
        score_predictions(record, store, progress)


def run_lacking(
    record: RunRecord, interleaver: Interleaver, name: str, cases: Sequence[Case], progress: Progress
) -> None:
    """Run `cases` by variant `name`, the baseline beside it, in a round of their own and processes launched anew."""
    store = interleaver.store
    number = 1 + max(s.round for own in store.records.values() for s in own.samples if s.phase == INTERLEAVED)
    progress.start(f"the cases that {name} lacks", 2 * len(cases))
    interleaver.relaunch((record.baseline, name))
    interleaver.round(INTERLEAVED, number, cases, calls=False)


def plan_confirmation(
    record: RunRecord, interleaver: Interleaver, chosen: str, least_launches: int
) -> ConfirmationRecord:
    """How much the confirmation of the variant `chosen` measures: fixed now, by the interleaved samples alone.

    All cases as often as they were interleaved, in as many launches, which are `least_launches` at least. In a race
    fewer may do, of all sizes, and not each of them in every launch (`reports.decision.confirmation_plan`). Where one
    of both runs all cases in one call, each call has a launch of its own, and there are as many as a claim needs at
    the least.
    """
    pair, cases = (record.baseline, chosen), record.cases
    before = [s for s in interleaver.store.records[chosen].samples if s.phase == INTERLEAVED]
    launches = max(len({sample.launch for sample in before}), least_launches)
    rounds = max(Counter(sample.case for sample in before).values(), default=0)  # what waited has some in two halves
    rounds = max(rounds, launches)
    whole = partial(ConfirmationPlan, cases=len(cases), repeated=len(cases))
    plan = whole(launches=launches, rounds=rounds)
    if any(record.settings.variants[name].one_call for name in pair):
        launches = max(rounds, MIN_CASES)
        plan = whole(launches=launches, rounds=launches)
    elif record.settings.race:
        run, claim = interleaver.store.run(record, pair), Claim.of(record.settings)
        plan = soonest(run, chosen, claim, _cost(pair, interleaver), plan, least_launches)
    if plan.repeated < len(cases):
        cases = tuple(spread_out(cases, f"{record.settings.seed} {PHASE} cases")[: plan.cases])
    names = tuple(case.name for case in cases)
    return ConfirmationRecord(cases=names, launches=plan.launches, rounds=plan.rounds, repeated=plan.repeated)


def confirm(record: RunRecord, interleaver: Interleaver, progress: Progress) -> None:
    """Run `record.confirmed` and the baseline as `record.confirmation` says.

    Launches that an interrupted run finished, which are known by their rounds, keep their samples; one that it left
    half done is made anew as a whole, since its processes are gone. A new one has a number that none has had, since
    cases whose masks were lost may have been run anew meanwhile.
    """
    plan = record.confirmation
    assert record.confirmed is not None
    assert plan is not None
    pair = (record.baseline, record.confirmed)
    interleaver.fleet.close_all_but(pair)
    launches = [
        (numbers, [case for case in record.cases if case.name in plan.of_launch(index)])
        for index, numbers in enumerate(_split(plan.rounds, plan.launches))
    ]
    progress.start(f"confirming {record.confirmed}", sum(2 * len(numbers) * len(cases) for numbers, cases in launches))
    for numbers, cases in launches:
        if _finished(interleaver.store, pair, numbers, cases):
            continue
        interleaver.relaunch(pair)
        for number in numbers:
            if record.confirmed not in interleaver.fleet.open_names:
                return  # it has failed, and the baseline alone confirms nothing
            interleaver.round(PHASE, number, cases)


def _finished(store: RunStore, pair: Sequence[str], numbers: Sequence[int], cases: Sequence[Case]) -> bool:
    """Whether a launch had these rounds of these cases; one that had some of them is dropped."""
    samples = [s for name in pair for s in store.records[name].samples]
    begun = {s.launch for s in samples if s.phase == PHASE and s.round in numbers}
    if any(store.complete(pair, PHASE, launch, numbers, cases) for launch in begun):
        return True
    for name in pair:
        for launch in begun:
            store.drop_launch(name, PHASE, launch)
    return False


def _cost(pair: Sequence[str], interleaver: Interleaver) -> Cost:
    """By the interleaved samples, and the last launch of both."""
    samples = [interleaver.store.records[name].samples for name in pair]
    timed = [[case_ns(s) for s in own if s.phase == INTERLEAVED] for own in samples]
    return Cost(
        case_s=sum(1e-9 * sum(own) / len(own) for own in timed),
        launch_s=sum(interleaver.opening_s.get(name, 0.0) for name in pair),
    )


def _split(rounds: int, launches: int) -> list[Sequence[int]]:
    """The rounds of each launch, in order, as even as may be."""
    bounds = [rounds * launch // launches for launch in range(launches + 1)]
    return [range(first, end) for first, end in pairwise(bounds)]
