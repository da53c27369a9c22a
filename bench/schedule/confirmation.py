"""The confirmation: the chosen variant against the baseline afresh, in several newly launched pairs of processes."""

from collections.abc import Sequence
from itertools import pairwise

from bench.progress import Progress
from bench.schedule.interleave import Interleaver
from reports.records.record import CONFIRMATION, INTERLEAVED, RunRecord
from reports.stats.bootstrap import MIN_CASES


def confirm(record: RunRecord, interleaver: Interleaver, least_launches: int, progress: Progress) -> None:
    """Run `record.confirmed` and the baseline as often as they were interleaved, in as many launches.

    These are `least_launches` at least, and both numbers are thus fixed beforehand. Where one of both runs all cases in
    one call, each call has a launch of its own, and there are as many as a claim needs at the least. Launches that an
    interrupted run finished keep their samples; one that it left half done is made anew as a whole, since its processes
    are gone.
    """
    assert record.confirmed is not None
    store, pair = interleaver.store, (record.baseline, record.confirmed)
    interleaver.fleet.close_all_but(pair)
    before = {(s.launch, s.round) for s in store.records[record.confirmed].samples if s.phase == INTERLEAVED}
    launches = max(len({launch for launch, _ in before}), least_launches)
    rounds = max(len({number for _, number in before}), launches)
    if any(record.settings.variants[name].one_call for name in pair):
        launches = rounds = max(rounds, MIN_CASES)
    first = 1 + max(s.launch for r in store.records.values() for s in r.samples if s.phase == INTERLEAVED)
    progress.start(f"confirming {record.confirmed}", rounds * len(record.cases) * 2)
    for launch, numbers in enumerate(_split(rounds, launches), first):
        if store.complete(pair, CONFIRMATION, launch, numbers, record.cases):
            continue
        interleaver.relaunch(pair, launch)
        for number in numbers:
            if record.confirmed not in interleaver.fleet.open_names:
                return  # it has failed, and the baseline alone confirms nothing
            interleaver.round(CONFIRMATION, number)


def _split(rounds: int, launches: int) -> list[Sequence[int]]:
    """The rounds of each launch, in order, as even as may be."""
    bounds = [rounds * launch // launches for launch in range(launches + 1)]
    return [range(first, end) for first, end in pairwise(bounds)]
