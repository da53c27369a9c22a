"""The confirmation: the chosen backend against the baseline afresh, in several newly started pairs of processes."""

from collections.abc import Sequence
from itertools import pairwise

from bench.progress import Progress
from bench.schedule.interleave import Duel
from reports.records.record import CONFIRMATION, INTERLEAVED, RunRecord

STARTS = 3  # two processes of the same backend differ, so one pair would take its own luck for the backend's


def confirm(record: RunRecord, duel: Duel, progress: Progress) -> None:
    """Run `record.confirmed` and the baseline as often as they duelled, in as many starts, which are `STARTS` at least.

    Both numbers are thus fixed beforehand. Starts that an interrupted run finished keep their samples; one that it left
    half done is made anew as a whole, since its processes are gone.
    """
    assert record.confirmed is not None
    duel.keep((record.baseline, record.confirmed))
    duelled = {(s.launch, s.round) for s in duel.records[record.confirmed].samples if s.phase == INTERLEAVED}
    starts = max(len({start for start, _ in duelled}), STARTS)
    rounds = max(len({number for _, number in duelled}), starts)
    first = 1 + max(s.launch for r in duel.records.values() for s in r.samples if s.phase == INTERLEAVED)
    progress.start(f"confirming {record.confirmed}", rounds * len(record.cases) * 2)
    for start, numbers in enumerate(_split(rounds, starts), first):
        if duel.complete((record.baseline, record.confirmed), CONFIRMATION, start, numbers):
            continue
        duel.restart((record.baseline, record.confirmed), start)
        for number in numbers:
            if record.confirmed not in duel.live:
                return  # it has failed, and the baseline alone confirms nothing
            duel.round(CONFIRMATION, number)


def _split(rounds: int, starts: int) -> list[Sequence[int]]:
    """The rounds of each start, in order, as even as may be."""
    bounds = [rounds * start // starts for start in range(starts + 1)]
    return [range(first, end) for first, end in pairwise(bounds)]
