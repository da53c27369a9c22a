"""As many variants in a round as memory allows: one group after the other, the baseline in each."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from bench.machine import host
from bench.plan.plan import Plan
from bench.progress import Progress
from bench.schedule import availability
from bench.schedule.interleave import Interleaver
from bench.schedule.limits import Limits
from bench.schedule.race import Race
from bench.worker.messages import Open, OpenCommand
from reports.decision.outcome import converged
from reports.decision.verdict import Claim
from reports.records.record import INTERLEAVED, PENDING, RunRecord, VariantRecord
from reports.stats.bootstrap import MIN_CASES

MOST_AT_ONCE = 8  # builds: beyond that they wait for memory and disk


def interleave_in_groups(
    plan: Plan, record: RunRecord, interleaver: Interleaver, limits: Limits, progress: Progress
) -> RunRecord:
    """Build every variant that is still to be run, interleave it with the baseline, and record the groups.

    Groups that an interrupted run recorded stay as they are, since their rounds are counted on from one to the next.
    """
    records = interleaver.store.records
    waiting = [each for each in plan.opens if records[each.name].status == PENDING and not records[each.name].left]
    progress.start("building backends", len(waiting))
    place = _places(record)
    waiting.sort(key=lambda request: (request.name != record.baseline, place.get(request.name, inf), _alone(request)))
    baseline = waiting.pop(0)
    interleaver.open_one(baseline)
    progress.advance(baseline.name)
    waiting = _available(waiting, record, interleaver, progress)
    others, first = len(waiting), 0
    while True:
        group, is_recorded = _build(waiting, record, interleaver, progress)
        if not is_recorded:
            record = replace(record, groups=(*record.groups, (record.baseline, *group)))
            interleaver.store.directory.save_run(record)
        first = _rounds(record, group, first, len(group) / max(others, 1), interleaver, limits, progress)
        if not waiting:
            return record
        interleaver.fleet.close_all_but((record.baseline,))
        progress.start("building backends", len(waiting))


def _available(
    waiting: list[Open | OpenCommand], record: RunRecord, interleaver: Interleaver, progress: Progress
) -> list[Open | OpenCommand]:
    """Those of `waiting` that do not say that they cannot run here; the others are skipped."""
    absent = availability.unavailable(waiting, record.settings.timeout_s)
    for name, reason in absent.items():
        interleaver.skip(name, reason)
        progress.advance(name)
    return [request for request in waiting if request.name not in absent]


def _build(
    waiting: list[Open | OpenCommand], record: RunRecord, interleaver: Interleaver, progress: Progress
) -> tuple[list[str], bool]:
    """Open the next group, taken from the front of `waiting`; also whether the record has it already."""
    place = _places(record)
    if not waiting:
        return [], bool(record.groups)
    this = place.get(waiting[0].name)
    begun = 0

    def next_one(building: Sequence[Open | OpenCommand]) -> Open | OpenCommand | None:
        nonlocal begun
        if not waiting or place.get(waiting[0].name) != this:
            return None
        if building and any(map(_alone, (waiting[0], *building))):
            return None
        if this is None and begun and not interleaver.fleet.has_room():
            return None
        begun += 1
        return waiting.pop(0)

    group = interleaver.open(next_one, min(host.physical_threads(), MOST_AT_ONCE), progress.advance)
    return group, this is not None


def _places(record: RunRecord) -> dict[str, int]:
    """The group of each variant, as far as groups are recorded; without the baseline, which is in all."""
    return {name: number for number, group in enumerate(record.groups) for name in group if name != record.baseline}


def _alone(request: Open | OpenCommand) -> bool:
    """Whether nothing else is built meanwhile: calibration takes all threads, and two at once five times as long."""
    return isinstance(request, Open) and request.backend.precision == "int8"


def _rounds(
    record: RunRecord,
    group: list[str],
    first: int,
    share: float,
    interleaver: Interleaver,
    limits: Limits,
    progress: Progress,
) -> int:
    """Rounds over all cases until the wanted number, or until every claim has converged or the budget is spent.

    The processes are launched anew before a round, yet not before the rounds since the last launch have taken as long
    as `Limits.relaunch_cost` says. No claim counts as converged in fewer than `Limits.launches` launches, without which
    nobody knows how much these differ. Beside a command that runs all cases in one call they are launched anew before
    every round: then each call and the cases that it is held against are of one launch. Where the run is a race, they
    end as soon as that is settled, and within the first one those wait that others are faster than.

    `share`: of the budget, by the group's share of the variants. Returns the number of the next group's first round.
    """
    settings, done, claim = record.settings, 0, Claim.of(record.settings)
    store, names = interleaver.store, (record.baseline, *group)
    most, interleaver.first_round = settings.rounds or limits.rounds, first
    calls = any(settings.variants[name].one_call for name in names)
    race = Race(record, names, settings.budget_s * share, interleaver, progress)
    while done < most:
        if done and (calls or interleaver.run_share >= limits.relaunch_cost):
            progress.start(f"launching anew for round {first + done + 1}", 1)
            interleaver.relaunch(interleaver.fleet.open_names, store.next_launch)
        progress.start(f"round {first + done + 1}", len(record.cases) * len(interleaver.fleet.open_names))
        interleaver.round(INTERLEAVED, first + done, record.cases, None if done else race.look_early)
        race.look()
        while race.resume():
            progress.start(f"round {first + done + 1}, the rest", len(record.cases) * len(interleaver.fleet.open_names))
            interleaver.round(INTERLEAVED, first + done, record.cases, race.look_early)
            race.look()
        done += 1
        if settings.rounds is None:
            variants = tuple(store.records[name] for name in names)
            late = _spent(variants, first, done, interleaver.fleet.open_names) > settings.budget_s * share
            enough = _launches(variants, first) >= limits.launches or len(record.cases) < MIN_CASES
            if late or race.is_settled or (enough and converged(store.run(record, names), claim)):
                break
    # A resumed run may stop earlier than the one before did, whose rounds keep their numbers all the same.
    had = [s.round for name in group for s in store.records[name].samples if s.phase == INTERLEAVED]
    return max([first + done, *(number + 1 for number in had)])


def _launches(variants: tuple[VariantRecord, ...], first: int) -> int:
    return len({s.launch for v in variants for s in v.samples if s.phase == INTERLEAVED and s.round >= first})


def _spent(variants: tuple[VariantRecord, ...], first: int, rounds: int, racing: Sequence[str]) -> float:
    """Seconds that the group's rounds will have taken after one more by those that are still `racing`."""
    taken = {v.name: [s for s in v.samples if s.phase == INTERLEAVED and s.round >= first] for v in variants}
    seconds = {name: sum(s.case_ns for s in samples) * 1e-9 for name, samples in taken.items()}
    return sum(seconds.values()) + sum(seconds[name] / rounds for name in racing if name in seconds)
