"""What was measured keeps the baseline that it was measured beside, whatever is run later or again."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from bench.progress import Unshown
from bench.schedule import confirmation, race
from bench.schedule.confirmation import confirm
from bench.schedule.groups import interleave_in_groups
from bench.schedule.interleave import Interleaver
from bench.schedule.limits import Limits
from bench.schedule.scoring import first_samples
from reports.decision.comparison import compare
from reports.decision.racing import level_early, looks
from reports.decision.speed import case_ns, pairs, speed
from reports.records.record import CONFIRMATION, FAILED, INTERLEAVED, ConfirmationRecord
from reports.stats.bootstrap import ALPHA
from tests.bench.schedule.scripted import interleaved
from tests.reports.factory import BASELINE, Candidate, make_run, variant


def test_what_waited_is_measured_beside_a_baseline_of_its_own(scripted):
    """The machine becomes three times slower before the second pass, of which what has left must show nothing."""
    times = {BASELINE: 1_000_000, "lossy": 500_000, "late": 600_000}
    state = {"slower": 1}
    made = make_run({"lossy": Candidate(2.0), "late": Candidate(1.7)}, cases=16)
    fresh = replace(made, variants=tuple(replace(v, samples=(), scores=()) for v in made.variants))
    run = scripted(fresh, lambda name, _: times[name] * state["slower"], race=False)
    run.interleaver.fleet.know(run.plan.opens)
    for request in run.plan.opens:
        run.interleaver.open_one(request)
    run.interleaver.round(
        INTERLEAVED, 0, run.record.cases, lambda done: run.interleaver.waiting.add("late") if done == 5 else None
    )
    run.interleaver.leave("lossy", "its accuracy lost")
    run.interleaver.waiting.clear()
    state["slower"] = 3
    lacking = run.interleaver.lacking(run.record.cases)
    assert len(lacking) == 11
    run.interleaver.round(INTERLEAVED, 1, lacking, calls=False)
    assert run.interleaver.lacking(run.record.cases) == []
    for name, factor in (("lossy", 2.0), ("late", 1 / 0.6)):
        found = speed(pairs(run.store.run(run.record), name, INTERLEAVED), case_ns)
        assert (found.cases, found.pairs) == (16, 16)
        assert (found.speedup.low, found.speedup.high) == pytest.approx((factor, factor))
    assert len(first_samples(run.store.records["late"])) == 16


def test_a_group_whose_variants_have_all_left_keeps_its_rounds(scripted):
    made = make_run({"gone": Candidate(0.9), "going": Candidate(2.0)}, cases=6, rounds=2)
    baseline, gone, going = made.variants
    begun = replace(made, variants=(
        replace(baseline, samples=(*interleaved(baseline, 0), *interleaved(baseline, 1, 1)[:3]), build_s=1.0),
        replace(gone, left="slower than the claim", samples=interleaved(gone, 0)),
        replace(going, samples=interleaved(going, 1, 1)[:3], build_s=2.0, peak_memory_bytes=999),
    ))  # fmt: skip
    run = scripted(begun, rounds=1, race=False)
    record = replace(run.record, groups=((BASELINE, "gone"), (BASELINE, "going")))
    before = pairs(begun, "gone", INTERLEAVED)
    interleave_in_groups(run.plan, record, run.interleaver, Limits(), Unshown())
    assert pairs(run.store.run(record), "gone", INTERLEAVED) == before
    assert run.rounds("going") == [1] * 6
    assert run.rounds(BASELINE) == [0] * 6 + [1] * 6
    resumed = run.store.records["going"]
    assert (resumed.build_s, resumed.peak_memory_bytes) == (2.0, 999), "of its build, and the most that it ever took"


def test_a_race_that_is_interrupted_twice_spends_no_error_a_second_time(scripted, monkeypatch):
    """First within the first round, then within the second."""
    levels, ends = [], {"at": 0}
    monkeypatch.setattr(race, "leaving", lambda _, __, level, ___: levels.append(level) or {})

    def takes(_, number):
        if number == ends["at"]:
            raise KeyboardInterrupt
        return 1_000_000

    made = make_run({"x": Candidate(1.0), "y": Candidate(1.0)}, cases=16)
    run = scripted(replace(made, variants=tuple(replace(v, samples=()) for v in made.variants)), takes, race=True)
    record, limits = replace(run.record, groups=((BASELINE, "x", "y"),)), Limits(rounds=3, launches=9)
    for number in (3 + 3 * 10, 3 + 3 * (6 + 4), 0):  # three are warmed up, and the case that was interrupted is anew
        ends["at"] = number
        with nullcontext() if number == 0 else pytest.raises(KeyboardInterrupt):
            interleave_in_groups(run.plan, record, Interleaver(run.store, record, Unshown()), limits, Unshown())
    assert levels.count(level_early(16)) == len(looks(16))
    after = [level for level in levels if level != level_early(16)]
    assert len(after) == len(set(after)) == 3
    assert sum(levels) <= ALPHA
    assert run.rounds("x") == [0] * 16 + [1] * 16 + [2] * 16


def to_confirm(scripted, repeated=None, left=""):
    """A run of six cases whose variant is to be confirmed in three launches, and its record."""
    made = make_run({"tuned": Candidate(2.0)}, cases=6, rounds=1)
    baseline, tuned = made.variants
    begun = replace(made, variants=(
        replace(baseline, samples=interleaved(baseline, 0)),
        replace(tuned, samples=interleaved(tuned, 0), left=left),
    ))  # fmt: skip
    run = scripted(begun, rounds=1, race=False)
    names = tuple(case.name for case in run.record.cases)
    record = replace(
        run.record, groups=((BASELINE, "tuned"),), confirmed="tuned",
        confirmation=ConfirmationRecord(cases=names, launches=3, rounds=3, repeated=repeated),
    )  # fmt: skip
    return run, interleave_in_groups(run.plan, record, run.interleaver, Limits(), Unshown())


def test_what_has_left_is_confirmed_where_that_was_fixed_before(scripted):
    run, record = to_confirm(scripted, left="its accuracy lost")
    confirm(record, run.interleaver, Unshown())
    assert len(pairs(run.store.run(record), "tuned", CONFIRMATION)) == 18


@pytest.mark.parametrize(("fixed", "chosen"), [(None, "next"), ("lossy", "lossy")])
def test_what_has_left_runs_the_cases_that_it_lacks_before_it_is_confirmed(fixed, chosen, scripted, monkeypatch):
    """Of the fastest five cases show no loss, and all of them do."""
    candidates = {"lossy": Candidate(3.0, lesion=[0.0] * 5 + [-0.1] * 11), "next": Candidate(2.0)}
    made = make_run({**candidates, "lost": variant("lost", FAILED, "killed")}, cases=16, rounds=1)
    begun = [replace(each, samples=interleaved(each, 0)) for each in made.variants]
    few = [replace(each, samples=each.samples[:5], scores=each.scores[:5], left="beaten") for each in begun[1:3]]
    run = scripted(replace(made, variants=(begun[0], *few, begun[3])), race=True)
    run.store.update("lost", status=FAILED)

    def score(_, store, __):  # the workers are a script, and no masks are there
        for own in list(store.records.values()):
            had = {sample.case for sample in own.samples}
            store.update(own.name, scores=tuple(each for each in made.variant(own.name).scores if each.case in had))

    monkeypatch.setattr(confirmation, "score_predictions", score)
    run.interleaver.fleet.know(run.plan.opens)
    record = replace(run.record, confirmed=fixed)
    assert confirmation.to_confirm(record, run.interleaver, Unshown()) == chosen
    whole = run.store.run(record)
    assert compare(whole, chosen).accuracy.cases == 16
    fresh = [own for _, own in pairs(whole, chosen, INTERLEAVED) if own.round > 0]
    assert len(fresh) == 11, "with the baseline beside it"


def test_a_case_that_is_not_repeated_is_confirmed_in_one_launch_alone(scripted):
    """Also where the run was interrupted within the second launch, which is made anew as a whole."""
    run, record = to_confirm(scripted, repeated=3)
    confirm(record, run.interleaver, Unshown())
    whole = pairs(run.store.run(record), "tuned", CONFIRMATION)
    names = [case.name for case in record.cases]
    launches = sorted({sample.launch for _, sample in whole})
    taken = [sorted(s.case for _, s in whole if s.launch == launch) for launch in launches]
    assert taken == [sorted([*names[:3], own]) for own in names[3:]]
    before = {name: run.store.records[name].samples for name in (BASELINE, "tuned")}
    for name, samples in before.items():
        run.store.drop_launch(name, CONFIRMATION, launches[-1])
        cut = [s for s in samples if s.launch == launches[1]][-1]
        run.store.drop(name, CONFIRMATION, cut.round, next(case for case in record.cases if case.name == cut.case))
    confirm(record, run.interleaver, Unshown())
    for name, samples in before.items():
        after = run.store.records[name].samples
        assert sorted((s.case, s.launch) for s in after) == sorted((s.case, s.launch) for s in samples)
        first = [s.started_unix_s for s in samples if s.launch == launches[0]]
        assert [s.started_unix_s for s in after if s.launch == launches[0]] == first, "which was complete"


def test_a_confirmation_keeps_its_launches_where_a_lost_mask_was_made_anew_since(scripted):
    """The run was interrupted within the second launch, and the case is run by processes of a later number."""
    run, record = to_confirm(scripted)
    confirm(record, run.interleaver, Unshown())
    for name in (BASELINE, "tuned"):
        launches = sorted({s.launch for s in run.store.records[name].samples if s.phase == CONFIRMATION})
        run.store.drop_launch(name, CONFIRMATION, launches[2])
        run.store.drop(name, CONFIRMATION, 1, record.cases[0])
        run.store.drop(name, INTERLEAVED, 0, record.cases[0])
    kept = [pair for pair in pairs(run.store.run(record), "tuned", CONFIRMATION) if pair[0].round == 0]
    again = Interleaver(run.store, run.record, Unshown())
    confirm(interleave_in_groups(run.plan, record, again, Limits(), Unshown()), again, Unshown())
    whole = pairs(run.store.run(record), "tuned", CONFIRMATION)
    assert [pair for pair in whole if pair[0].round == 0] == kept
    assert [len({own.launch for _, own in whole if own.round == number}) for number in range(3)] == [1, 1, 1]
    assert len({own.launch for _, own in whole}) == 3
    assert len(whole) == 18
    assert len(pairs(run.store.run(record), "tuned", INTERLEAVED)) == 6
