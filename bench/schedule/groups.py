"""As many variants in a round as memory allows: one group after the other, the baseline in each."""

from collections.abc import Iterable, Sequence
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
from reports.records.record import INTERLEAVED, PENDING, SKIPPED, RunRecord, VariantRecord
from reports.stats.bootstrap import MIN_CASES

MOST_AT_ONCE = 8  # builds: beyond that they wait for memory and disk


def interleave_in_groups(
    plan: Plan, record: RunRecord, interleaver: Interleaver, limits: Limits, progress: Progress
) -> RunRecord:
    """Build every variant that is still to be run, interleave it with the baseline, and record the groups.

    Groups that an interrupted run recorded stay as they are, since their rounds are counted on from one to the next.
    """
    records = interleaver.store.records
    interleaver.fleet.know(plan.opens)  # also of what has left, which may be what is to be confirmed
    waiting = [each for each in plan.opens if records[each.name].status == PENDING and not records[each.name].left]
    progress.start("building backends", len(waiting))
    place = _places(record)
    waiting.sort(key=lambda request: (request.name != record.baseline, place.get(request.name, inf), _alone(request)))
    baseline = waiting.pop(0)
    interleaver.open_one(baseline)
    progress.advance(baseline.name)
    waiting = _available(waiting, record, interleaver, progress)
    others = sum(own.status != SKIPPED for own in records.values()) - 1  # also those that have left
    while True:
        group, is_recorded = _build(waiting, record, interleaver, progress)
        if not is_recorded:
            record = replace(record, groups=(*record.groups, (record.baseline, *group)))
            interleaver.store.directory.save_run(record)
        members = _members(record, group)
        share = sum(records[name].status != SKIPPED for name in members) / max(others, 1)
        first = _first_round(members, [own for own in records.values() if own.name != record.baseline])
        _rounds(record, group, first, share, interleaver, limits, progress)
        if not waiting:
            return record
        interleaver.fleet.close_all_but((record.baseline,))
        progress.start("building backends", len(waiting))


def _members(record: RunRecord, group: Sequence[str]) -> list[str]:
    """All variants of the recorded group of which these are open, without the baseline."""
    own = next(own for own in record.groups if set(group) <= set(own))
    return [name for name in own if name != record.baseline]


def _first_round(members: Sequence[str], others: Iterable[VariantRecord]) -> int:
    """The number of a group's first round: that of before, where an interrupted run began it, else the next."""
    rounds = {own.name: [s.round for s in own.samples if s.phase == INTERLEAVED] for own in others}
    begun = [number for name in members for number in rounds[name]]
    return min(begun) if begun else 1 + max((number for own in rounds.values() for number in own), default=-1)


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
        if this is None and begun and not interleaver.fleet.has_room(waiting[0]):
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
) -> None:
    """Rounds over all cases until the wanted number, or until every claim has converged or the budget is spent.

    The processes are launched anew before a round, yet not before the rounds since the last launch have taken as long
    as `Limits.relaunch_cost` says. No claim counts as converged in fewer than `Limits.launches` launches, without which
    nobody knows how much these differ. Beside a command that runs all cases in one call they are launched anew before
    every round: then each call and the cases that it is held against are of one launch. Where the run is a race, they
    end as soon as that is settled, and within the first one those wait that others are faster than. What those that
    waited lack is a round of its own, with the baseline anew: its samples of before belong to what has left since.

    `share`: of the budget, by the group's share of the variants.
    """
    settings, done, claim = record.settings, 0, Claim.of(record.settings)
    store, names = interleaver.store, (record.baseline, *group)
    most, interleaver.first_round = settings.rounds or limits.rounds, first
    calls = any(settings.variants[name].one_call for name in names)
    race = Race(record, names, settings.budget_s * share, interleaver, progress)
    while done < most:
        if done and (calls or interleaver.run_share >= limits.relaunch_cost):
            progress.start(f"launching anew for round {first + done + 1}", 1)
            interleaver.relaunch(interleaver.fleet.open_names)
        progress.start(f"round {first + done + 1}", len(record.cases) * len(interleaver.fleet.open_names))
        interleaver.round(INTERLEAVED, first + done, record.cases, None if done else race.look_early)
        race.look()
        while race.resume() or interleaver.lacking(record.cases):
            done, cases = done + 1, interleaver.lacking(record.cases)
            progress.start(f"round {first + done + 1}, the rest", len(cases) * len(interleaver.fleet.open_names))
            interleaver.round(INTERLEAVED, first + done, cases, race.look_early, calls=False)
            race.look()
        done += 1
        if settings.rounds is None:
            variants = tuple(store.records[name] for name in names)
            spent_s = _spent_s(variants, first, len(record.cases), interleaver.fleet.open_names)
            late = spent_s > settings.budget_s * share
            enough = _launches(variants, first) >= limits.launches or len(record.cases) < MIN_CASES
            if late or race.is_settled or (enough and converged(store.run(record, names), claim)):
                break


def _launches(variants: tuple[VariantRecord, ...], first: int) -> int:
    return len({s.launch for v in variants for s in v.samples if s.phase == INTERLEAVED and s.round >= first})


def _spent_s(variants: tuple[VariantRecord, ...], first: int, cases: int, racing: Sequence[str]) -> float:
    """Seconds that the group's rounds will have taken after one more, over so many cases, by those still `racing`."""
    spent = 0.0
    for variant in variants:
        taken = [1e-9 * s.case_ns for s in variant.samples if s.phase == INTERLEAVED and s.round >= first]
        spent += sum(taken)
        if taken and variant.name in racing:
            spent += sum(taken) / len(taken) * (1 if variant.settings.one_call else cases)
    return spent
