"""`bench plan`: the declaration of a run, with what a short pilot lets expect of it."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import BackendLostError, InputError, StorageError
from bench.plan.declaration import Declaration, declaration_of
from bench.plan.plan import Plan, evenly, make_plan
from bench.plan.request import Request
from bench.progress import Progress
from bench.schedule.duration import Duration, Pace, expect
from bench.schedule.groups import interleave_in_groups
from bench.schedule.interleave import Interleaver
from bench.schedule.limits import DEFAULT, Limits
from bench.schedule.run_directory import RunDirectory, write_text
from bench.schedule.scoring import score_predictions
from bench.schedule.store import RunStore
from reports.decision.comparison import candidates
from reports.decision.needed import Planned, needed
from reports.decision.verdict import Claim
from reports.records.record import INTERLEAVED, PENDING, VariantRecord
from reports.records.store import Run
from reports.stats.power import POWER

PILOT_CASES, PILOT_ROUNDS = 5, 2  # each round in a launch of its own


@dataclass(frozen=True)
class Pilot:
    """A short run that is not kept: its records, and its pace."""

    run: Run
    pace: Pace


def declare(
    request: Request,
    options: Sequence[str],
    out: Path,
    progress: Progress,
    limits: Limits = DEFAULT,
    with_pilot: bool = True,
) -> Declaration:
    """Write to `out` what a run of `request` will do, which the command line `options` led to.

    Raises:
        InputError and its like: something cannot be used; nothing was written.
        BackendLostError: the baseline failed in the pilot; likewise.
    """
    if out.exists():
        raise InputError(f"{out}: is there already, and a declaration is not overwritten; name another file with --out")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: its folder is not there; make it, or name another file with --out")
    plan = make_plan(request, "plan", datetime.now(UTC).isoformat(timespec="seconds"), progress)
    forecast: dict[str, Any] = {"from": "no pilot was run"}
    if with_pilot:
        forecast = _forecast(plan, _pilot(plan, limits, progress), limits)
    declaration = declaration_of(out, plan, limits.stopping, options, forecast)
    write_text(out, declaration.text)
    return declaration


def _pilot(plan: Plan, limits: Limits, progress: Progress) -> Pilot:
    """Run a few cases by the rules of the run itself, in two launches."""
    cases = tuple(evenly(list(plan.record.cases), PILOT_CASES))
    record = replace(plan.record, cases=cases, settings=replace(plan.record.settings, rounds=PILOT_ROUNDS, race=False))
    records = {name: VariantRecord(name=name, settings=own) for name, own in record.settings.variants.items()}
    with tempfile.TemporaryDirectory(prefix="voxbench-pilot-") as folder:
        store = RunStore(RunDirectory.create(Path(folder) / "run"), records)
        interleaver, anew = Interleaver(store, record, progress), replace(limits, relaunch_cost=0.0)
        try:
            record = interleave_in_groups(replace(plan, record=record), record, interleaver, anew, progress)
        except StorageError:
            raise InputError(f"{folder}: no room for the pilot; make room, or leave it out with --no-pilot") from None
        except BackendLostError as lost:  # its log goes with the folder
            raise BackendLostError(f"in the pilot {str(lost).partition('; log: ')[0]}; nothing was declared") from None
        finally:
            interleaver.fleet.close_all_but(())
        begin = time.monotonic()
        score_predictions(record, store, progress)
        run = store.run(record)
        scoring_s = (time.monotonic() - begin) / max(1, sum(len(variant.scores) for variant in run.variants))
    case_s = {v.name: _case_s(v, len(cases)) for v in run.variants if v.status == PENDING}
    return Pilot(run, Pace(case_s=case_s, opening_s=interleaver.opening_s, scoring_s=scoring_s))


def _case_s(variant: VariantRecord, cases: int) -> float:
    """Mean seconds of a case; a sample may hold all cases of a round."""
    timed = [sample.case_ns for sample in variant.samples if sample.phase == INTERLEAVED]
    return sum(timed) * 1e-9 / (PILOT_ROUNDS * cases)


def _forecast(plan: Plan, pilot: Pilot, limits: Limits) -> dict[str, Any]:
    """What the plan says of the pilot; `cases_needed` is for the fastest variant, which a run would confirm."""
    record, run, case_s = plan.record, pilot.run, pilot.pace.case_s
    groups = [[name for name in group if name in case_s] for group in run.record.groups]
    least, most = expect(groups, pilot.pace, len(record.cases), record.settings, limits)
    claims = [variant.name for variant in candidates(run)]
    claim, planned = Claim.of(record.settings), _planned(plan, least, limits)
    needs = {name: needed(run, name, claim, planned) for name in claims}
    fastest = min(claims, key=lambda name: case_s[name], default=None)
    return {
        "from": f"a pilot of {PILOT_ROUNDS} rounds, each in a launch of its own; a forecast, not a result",
        "pilot_cases": [case.name for case in run.record.cases],
        "power": POWER,
        "planned": asdict(planned),
        "fastest": fastest,
        "cases_needed": needs[fastest].cases if fastest is not None else None,
        "duration": {"least": asdict(least), "most": asdict(most)},
        "scoring_s": pilot.pace.scoring_s,
        "variants": {
            variant.name: _pace_of(variant, pilot.pace)
            | ({**asdict(needs[variant.name]), "cases": needs[variant.name].cases} if variant.name in needs else {})
            for variant in run.variants
        },
    }


def _planned(plan: Plan, duration: Duration, limits: Limits) -> Planned:
    """At the least; the confirmation has as many rounds as its launches, or more."""
    launches = max(duration.launches, limits.launches)
    rounds = max(duration.rounds, launches)
    return Planned(cases=len(plan.record.cases), rounds=rounds, launches=launches, most_rounds=limits.rounds)


def _pace_of(variant: VariantRecord, pace: Pace) -> dict[str, Any]:
    if variant.name not in pace.case_s:
        return {"status": variant.status, "reason": variant.reason, "fix": variant.fix}
    return {
        "status": "ok",
        "case_s": pace.case_s[variant.name],
        "launch_s": pace.opening_s[variant.name],
        "build_s": variant.build_s,
    }
