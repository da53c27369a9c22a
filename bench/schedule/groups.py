"""As many backends in a round as memory allows: the duels of one group after the other, the baseline in every group."""

from dataclasses import replace

from bench.plan.plan import Plan
from bench.progress import Progress
from bench.schedule import availability
from bench.schedule.confirmation import STARTS
from bench.schedule.interleave import Duel
from bench.schedule.run_directory import RunDirectory
from bench.worker.messages import Open
from reports.decision.outcome import converged
from reports.decision.verdict import Claim
from reports.records.record import INTERLEAVED, PENDING, RunRecord, VariantRecord
from reports.records.store import Run
from reports.stats.bootstrap import MIN_CASES

MOST_ROUNDS = 20  # of `--rounds auto`; past that the noise is not of the kind that more rounds average out


def duel_in_groups(plan: Plan, record: RunRecord, duel: Duel, directory: RunDirectory, progress: Progress) -> RunRecord:
    """Build every backend that is still to be run and duel it with the baseline; the record then names the groups.

    Groups that an interrupted run recorded stay as they are, since their rounds are counted on from one to the next.
    """
    waiting = [request for request in plan.opens if duel.records[request.name].status == PENDING]
    progress.start("building backends", len(waiting))
    waiting.sort(key=lambda request: request.name != record.baseline)  # stable: the baseline first
    _open(waiting.pop(0), duel, progress)
    waiting = _available(waiting, record, duel, progress)
    others, first = len(waiting), 0
    while True:
        group, recorded = _build(waiting, record, duel, progress)
        if not recorded:
            record = replace(record, groups=(*record.groups, (record.baseline, *group)))
            directory.save_run(record)
        first = _rounds(record, group, first, len(group) / max(others, 1), duel, progress)
        if not waiting:
            return record
        duel.keep((record.baseline,))
        progress.start("building backends", len(waiting))


def _available(waiting: list[Open], record: RunRecord, duel: Duel, progress: Progress) -> list[Open]:
    """Those of `waiting` that do not say that they cannot run here; the others are skipped."""
    absent = availability.unavailable(waiting, record.settings.timeout_s)
    for name, found in absent.items():
        duel.skip(name, found)
        progress.advance(name)
    return [request for request in waiting if request.name not in absent]


def _build(waiting: list[Open], record: RunRecord, duel: Duel, progress: Progress) -> tuple[list[str], bool]:
    """Open the next group, taken from the front of `waiting`; also whether the record has it already."""
    place = {name: number for number, group in enumerate(record.groups) for name in group if name != record.baseline}
    if not waiting:
        return [], bool(record.groups)
    this = place.get(waiting[0].name)
    group: list[str] = []
    while waiting and place.get(waiting[0].name) == this and (this is not None or not group or duel.has_room()):
        request = waiting.pop(0)
        _open(request, duel, progress)
        group.append(request.name)
    return group, this is not None


def _open(request: Open, duel: Duel, progress: Progress) -> None:
    duel.open(request)
    progress.advance(request.name)


def _rounds(record: RunRecord, group: list[str], first: int, share: float, duel: Duel, progress: Progress) -> int:
    """Rounds over all cases until the wanted number, or until every claim is settled or the budget is spent.

    The processes are started anew before each round, yet not before the rounds since took as long as their start did.
    Claims count as settled in `STARTS` starts at least, without which nobody knows how much these differ.

    `share`: of the budget, by the group's share of the backends. Returns the number of the next group's first round.
    """
    settings, done, claim = record.settings, 0, Claim.of(record.settings)
    most, duel.first_round = settings.rounds or MOST_ROUNDS, first
    while done < most:
        if done and duel.paid_off:
            progress.start(f"starting anew for round {first + done + 1}", 1)
            duel.restart(duel.live, duel.next_start)
        progress.start(f"round {first + done + 1}", len(record.cases) * len(duel.live))
        duel.round(INTERLEAVED, first + done)
        done += 1
        if settings.rounds is None:
            backends = tuple(duel.records[name] for name in (record.baseline, *group))
            late = _spent(backends, first, done) > settings.budget_s * share
            enough = _starts(backends, first) >= STARTS or len(record.cases) < MIN_CASES
            if late or (enough and converged(Run(record, backends, duel.folder), claim)):
                break
    # A resumed run may stop earlier than the one before did, whose rounds keep their numbers all the same.
    had = [s.round for name in group for s in duel.records[name].samples if s.phase == INTERLEAVED]
    return max([first + done, *(number + 1 for number in had)])


def _starts(backends: tuple[VariantRecord, ...], first: int) -> int:
    return len({s.launch for b in backends for s in b.samples if s.phase == INTERLEAVED and s.round >= first})


def _spent(backends: tuple[VariantRecord, ...], first: int, rounds: int) -> float:
    """Seconds that the group's duels will have taken after one more round."""
    samples = [s for b in backends for s in b.samples if s.phase == INTERLEAVED and s.round >= first]
    return sum(s.case_ns for s in samples) * 1e-9 * (rounds + 1) / rounds
