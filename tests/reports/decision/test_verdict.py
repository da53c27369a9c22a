"""The rules of the verdict, one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.cli import exit_codes
from bench.cli.commands.check import exit_code
from reports.decision.accuracy import DSC, MetricKey, compare_accuracy
from reports.decision.outcome import choose, converged
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, KEPT, LOST, REFUTED, UNDECIDED, Claim, judge_accuracy
from reports.records.record import (
    CONFIRMATION,
    FAILED,
    INTERRUPTED,
    PENDING,
    SKIPPED,
    WARMUP,
    Score,
    StructureRecord,
    VariantRecord,
)
from reports.records.store import RecordError, Run
from reports.render.verification.criteria import PASS, criteria
from reports.summary.summarise import summarise
from reports.summary.summary import Summary
from tests.reports.factory import (
    BASELINE,
    LESION,
    Candidate,
    make_run,
    of_structures,
    rescored,
    segmenting,
    variant,
)

FAST = Candidate(4.0)
CONFIRMED_FAST = Candidate(4.0, confirmed_speedup=4.0)


def claim_of(run: Run, **changes: object) -> Claim:
    return replace(Claim.of(run.record.settings), **changes)  # type: ignore[arg-type]


def verdicts(summary: Summary) -> dict[str, str | None]:
    return {row.name: row.verdict for row in summary.rows}


def judged(candidate: Candidate, **run: object) -> tuple[str | None, tuple[str, ...]]:
    row = summarise(make_run({"x": candidate}, **run)).row("x")  # type: ignore[arg-type]
    return row.verdict, row.reasons


# --- a variant -------------------------------------------------------------------------------------------------------


def test_fast_and_as_accurate_is_confirmed() -> None:
    verdict, reasons = judged(FAST)
    assert verdict == CONFIRMED
    assert reasons[0].startswith("case time reduced by 75.0 % (at least 74.9 % with 95 % confidence; 10 % required)")
    assert reasons[1].startswith("accuracy kept within the margins: whole-pancreas DSC ±0 (at worst ±0")


def test_too_slow_is_refuted() -> None:
    verdict, reasons = judged(Candidate(1.05))
    assert verdict == REFUTED
    assert reasons[0].startswith("case time reduced by 4.8 % (reduced by at most")


def test_slower_than_the_baseline_is_refuted() -> None:
    verdict, reasons = judged(Candidate(0.5))
    assert verdict == REFUTED
    assert reasons[0].startswith("case time increased by 99.9 % (increased by at least 99.5 % with 95 % confidence")


def test_bounds_on_both_sides_of_the_claim_are_inconclusive() -> None:
    verdict, reasons = judged(Candidate(1.13, jitter=(0.9, 1.0, 1.2)), rounds=1)
    assert verdict == INCONCLUSIVE
    assert "more rounds or more cases would settle it" in reasons[0]


@pytest.mark.parametrize(("cases", "verdict"), [(4, INCONCLUSIVE), (5, CONFIRMED)])
def test_a_claim_about_time_needs_five_cases(cases: int, verdict: str) -> None:
    row = summarise(make_run({"x": FAST}, cases=cases)).row("x")
    assert (row.test.verdict, row.verdict) == (verdict, INCONCLUSIVE)
    assert ("needs at least 5 cases" in row.reasons[0]) == (verdict == INCONCLUSIVE)


@pytest.mark.parametrize(("cases", "verdict"), [(15, INCONCLUSIVE), (16, CONFIRMED)])
def test_an_unchanged_macro_f1_needs_sixteen_cases(cases: int, verdict: str) -> None:
    result, reasons = judged(FAST, cases=cases)
    assert result == verdict
    said = (
        "accuracy undecided: macro-F1 ±0 (at worst ±0 with 95 % confidence; margin 0.02), but 15 cases may not show "
        "that 10 % of all are lost; 16 cases would settle it"
    )
    assert (reasons[0] == said) == (verdict == INCONCLUSIVE)


def test_few_cases_are_enough_for_a_lost_macro_f1_and_for_a_network_without_classes() -> None:
    assert judged(replace(FAST, flips=3), cases=6)[0] == REFUTED
    row = summarise(segmenting(make_run({"x": FAST}, cases=5))).row("x")
    assert row.verdict == CONFIRMED


def test_a_loss_of_surface_distance_is_judged_by_its_own_margin() -> None:
    verdict, reasons = judged(replace(FAST, nsd=-0.008))
    assert (verdict, "whole-pancreas NSD -0.0080 (at worst -0.0080" in reasons[1]) == (CONFIRMED, True)
    verdict, reasons = judged(replace(FAST, nsd=-0.02))
    assert verdict == REFUTED
    assert reasons[0].startswith("accuracy lost: whole-pancreas NSD fell by 0.0200 (margin 0.01); lesion NSD fell")
    run = make_run({"x": replace(FAST, nsd=-0.02)})
    row = summarise(run, claim_of(run, max_nsd_drop=0.03)).row("x")
    assert row.verdict == CONFIRMED


# --- several claims, several analyses --------------------------------------------------------------------------------

CLOSE = Candidate(1.14, jitter=(1.0, 1.12, 0.93, 1.05, 0.9))


def test_a_bound_that_confirms_by_itself_does_not_after_interim_analyses() -> None:
    once, often = (summarise(make_run({"x": CLOSE}, rounds=3, asked=r)).row("x") for r in (3, None))
    assert once.case == often.case
    assert (once.verdict, often.verdict) == (CONFIRMED, INCONCLUSIVE)
    assert (once.test.analysis.number, often.test.analysis.number) == (None, 3)
    assert often.test.analysis.alpha == pytest.approx(0.05 / 12)
    assert often.test.analysis.alpha < often.test.p <= 0.05
    assert (
        "own bound would confirm, but not at interim analysis 3 of a run that may stop after each round: p = 0.0"
        in (often.reasons[0])
    )


def test_a_bound_that_confirms_by_itself_does_not_among_many() -> None:
    many = {"x": CLOSE} | {f"slow{i}": Candidate(1.0) for i in range(15)}
    row = summarise(make_run(many, rounds=3, asked=3)).row("x")
    assert row.verdict == INCONCLUSIVE
    assert "would confirm, but not by Holm's test over the 16 variants: p = 0." in row.reasons[0]
    assert row.test.p_holm == pytest.approx(16 * row.test.p)


def test_holm_lets_the_clear_ones_stand() -> None:
    many = {f"fast{i}": FAST for i in range(15)} | {"x": CLOSE}
    assert set(verdicts(summarise(make_run(many, rounds=3, asked=3))).values()) == {CONFIRMED, None}


def test_a_bound_that_refutes_by_itself_does_not_after_interim_analyses() -> None:
    near = Candidate(1.08, jitter=(1.0, 1.12, 0.93, 1.05, 0.9))
    once, often = (summarise(make_run({"x": near}, rounds=3, asked=r)).row("x") for r in (3, None))
    assert (once.verdict, often.verdict) == (REFUTED, INCONCLUSIVE)
    assert "which this bound would refute, but not at interim analysis 3" in often.reasons[0]


def test_the_confirmation_is_one_claim_in_one_analysis() -> None:
    run = make_run({"x": replace(CLOSE, confirmed_speedup=1.14)}, rounds=3, confirmed="x")
    assert verdicts(summarise(run))["x"] == INCONCLUSIVE
    assert summarise(run).verdict == CONFIRMED


def test_a_certain_loss_is_refuted_and_comes_first() -> None:
    verdict, reasons = judged(replace(FAST, lesion=-0.03))
    assert verdict == REFUTED
    assert reasons[0] == "accuracy lost: lesion DSC fell by 0.0300 (margin 0.005)"


def test_an_estimate_beyond_the_margin_is_lost_even_where_the_upper_bound_is_not() -> None:
    assert judged(replace(FAST, whole=(-0.03, 0.01)))[0] == REFUTED


def test_a_loss_that_may_exceed_the_margin_is_inconclusive() -> None:
    verdict, reasons = judged(replace(FAST, lesion=(-0.018, 0.012)))
    assert verdict == INCONCLUSIVE
    assert reasons[0].startswith("accuracy undecided: lesion DSC -0.0030 (at worst -0.0")


def test_a_gain_is_kept() -> None:
    assert judged(replace(FAST, lesion=0.02, whole=0.01))[0] == CONFIRMED


def test_flipped_classes_are_lost() -> None:
    verdict, reasons = judged(replace(FAST, flips=4))
    assert verdict == REFUTED
    assert "macro-F1 fell by" in reasons[0]


def test_without_any_truth_the_accuracy_is_undecided() -> None:
    verdict, reasons = judged(FAST, masks=False, subtypes=False)
    assert verdict == INCONCLUSIVE
    assert reasons[0] == "accuracy undecided: the data hold no ground truth (masks, subtypes)"


def test_without_subtypes_the_class_cannot_be_judged() -> None:
    verdict, reasons = judged(FAST, subtypes=False)
    assert verdict == INCONCLUSIVE
    assert "macro-F1 cannot be judged, as no case has a true and a predicted subtype" in reasons[0]


@pytest.mark.parametrize(("lesions", "candidate", "verdict", "reason"), [
    (True, FAST, CONFIRMED, "accuracy kept within the margins: whole-pancreas DSC ±0 (at worst ±0 with 95 % "
     "confidence; margin 0.005); lesion DSC ±0 (at worst ±0 with 95 % confidence; margin 0.005); whole-pancreas NSD ±0 "
     "(at worst ±0 with 95 % confidence; margin 0.01); lesion NSD ±0 (at worst ±0 with 95 % confidence; margin 0.01); "
     "macro-F1 is not applicable, as the task has no classes"),
    (False, FAST, CONFIRMED, "accuracy kept within the margins: whole-pancreas DSC ±0 (at worst ±0 with 95 % "
     "confidence; margin 0.005); whole-pancreas NSD ±0 (at worst ±0 with 95 % confidence; margin 0.01); lesion DSC is "
     "not applicable, as the network has no lesion class; lesion NSD is not applicable, as the network has no lesion "
     "class; macro-F1 is not applicable, as the task has no classes"),
    (True, replace(FAST, lesion=-0.03), REFUTED, "accuracy lost: lesion DSC fell by 0.0300 (margin 0.005); macro-F1 is "
     "not applicable, as the task has no classes"),
])  # fmt: skip
def test_what_does_not_apply_to_the_network_is_not_required(
    lesions: bool, candidate: Candidate, verdict: str, reason: str
) -> None:
    row = summarise(segmenting(make_run({"x": candidate}), lesions)).row("x")
    assert row.verdict == verdict
    assert reason in row.reasons


def test_data_without_masks_leave_a_network_that_only_segments_undecided() -> None:
    row = summarise(segmenting(make_run({"x": FAST}, masks=False))).row("x")
    assert row.verdict == INCONCLUSIVE
    assert row.reasons[0].startswith("accuracy undecided: the data hold no ground truth (masks); macro-F1 is not appli")


def test_lesions_in_few_cases_are_undecided() -> None:
    run = make_run({"x": FAST})
    few = [
        replace(b, scores=tuple(s if i < 3 else rescored(s, LESION, dsc=None) for i, s in enumerate(b.scores)))
        for b in run.variants
    ]
    row = summarise(replace(run, variants=tuple(few))).row("x")
    assert row.verdict == INCONCLUSIVE
    assert "lesion DSC rests on 3 cases, at least 5 are needed" in row.reasons[0]


# --- many structures -------------------------------------------------------------------------------------------------

THIRTY = {f"part {n}": StructureRecord(labels=(n,), nsd_tolerance_mm=None) for n in range(1, 31)}


@pytest.mark.parametrize(
    ("change", "state"), [(-0.004, KEPT), (-0.006, LOST), ((-0.018, 0.012), UNDECIDED), ((-0.03, 0.01), LOST)]
)
def test_accuracy_is_kept_only_if_every_structure_is(change: float, state: str) -> None:
    """Each at 95 %, as the intersection-union test has it, whatever the others' scores are."""
    run = of_structures(make_run({"x": FAST}), THIRTY, {"part 1": 0.1, "part 17": change})
    assert judge_accuracy(compare_accuracy(run, "x"), claim_of(run))[0] == state
    assert judge_accuracy(compare_accuracy(run, "x"), claim_of(run, max_dsc_drop=0.05))[0] == KEPT


def test_a_structures_own_margins_come_before_the_claims() -> None:
    structures = {
        "liver": StructureRecord(labels=(1,), nsd_tolerance_mm=2.0, max_dsc_drop=0.03),
        "spleen": StructureRecord(labels=(2,), nsd_tolerance_mm=2.0, max_nsd_drop=0.001),
    }
    run = of_structures(make_run({"x": FAST}), structures, {"liver": -0.009})
    row = summarise(run).row("x")
    assert row.verdict == CONFIRMED
    assert [f"{margin:g}" for margin in row.margins.values()] == ["0.03", "0.005", "0.01", "0.001", "0.02"]
    assert "liver DSC -0.0090 (at worst -0.0090 with 95 % confidence; margin 0.03)" in row.reasons[1]
    run = of_structures(make_run({"x": FAST}), structures, {"spleen": -0.002})
    assert summarise(run, claim_of(run, max_nsd_drop=0.5)).row("x").verdict == REFUTED


def absent(run: Run, rule: str, cases: int, claimed: int) -> Run:
    """The last `cases` have no lesion; in the last `claimed` of them the candidate predicts it all the same."""

    def of(each: VariantRecord, index: int, own: Score) -> Score:
        if index < len(each.scores) - cases:
            return own
        if index >= len(each.scores) - claimed and each.name != BASELINE:
            return rescored(own, LESION, dsc=0.0, nsd=0.0)
        return rescored(own, LESION, dsc=1.0, nsd=1.0, absent=True)

    variants = [
        replace(each, scores=tuple(of(each, index, own) for index, own in enumerate(each.scores)))
        for each in run.variants
    ]
    settings = replace(run.record.settings, absent=rule)
    return replace(run, record=replace(run.record, settings=settings), variants=tuple(variants))


def test_what_no_case_of_a_pair_holds_counts_nothing_or_one() -> None:
    """As `numpy.nanmean` over nnU-Net's scores, or as FLARE's mean; a false prediction counts either way."""
    key = MetricKey(DSC, LESION)
    run = make_run({"x": replace(FAST, lesion=-0.004)})
    present = [own.structures[LESION].dsc for own in run.variant(BASELINE).scores][:10]
    for rule, cases, values in (("skip", 10, present), ("one", 16, [*present, *[1.0] * 6])):
        metric = compare_accuracy(absent(run, rule, cases=6, claimed=0), "x").metric(key)
        assert (metric.cases, metric.absent) == (cases, 16 - cases)
        assert metric.baseline == pytest.approx(np.mean(values))
        assert metric.delta.estimate == pytest.approx(-0.004 * 10 / cases)
    claimed = compare_accuracy(absent(run, "skip", cases=6, claimed=1), "x").metric(key)
    assert (claimed.cases, claimed.absent, claimed.delta.estimate) == (11, 5, pytest.approx((-0.004 * 10 - 1) / 11))


def test_what_no_case_holds_is_not_judged_and_named() -> None:
    row = summarise(absent(make_run({"x": FAST}), "skip", cases=16, claimed=0)).row("x")
    assert row.verdict == CONFIRMED
    assert row.reasons[1].endswith("; in no case, and so not judged: lesion")
    assert "lesion DSC" not in row.reasons[1]
    false = summarise(absent(make_run({"x": FAST}), "skip", cases=16, claimed=1)).row("x")
    assert false.verdict == INCONCLUSIVE
    assert "lesion DSC rests on 1 case (15 more are without it), at least 5 are needed" in false.reasons[0]
    alone = segmenting(absent(make_run({"x": FAST}), "skip", cases=16, claimed=0))
    only = {name: own for name, own in alone.record.task.structures.items() if name == LESION}
    alone = replace(alone, record=replace(alone.record, task=replace(alone.record.task, structures=only)))
    assert summarise(alone).row("x").reasons[0].startswith("accuracy undecided: no case has what is scored; ")


def test_slow_and_undecided_is_refuted() -> None:
    assert judged(Candidate(1.0, lesion=(-0.018, 0.012)))[0] == REFUTED


# --- pairing ---------------------------------------------------------------------------------------------------------


def test_unpaired_samples_and_warm_up_count_for_nothing() -> None:
    run = make_run({"x": FAST})
    x = run.variant("x")
    odd = [replace(s, round=9, case_ns=1) for s in x.samples] + [replace(s, phase=WARMUP, case_ns=1) for s in x.samples]
    with_odd = replace(run, variants=(run.variants[0], replace(x, samples=(*x.samples, *odd))))
    assert summarise(with_odd).row("x") == summarise(run).row("x")


def test_a_pair_is_of_one_case_in_one_round() -> None:
    run = make_run({"x": Candidate(2.0, jitter=(1.0,))})
    x = run.variant("x")
    turned = replace(x, samples=tuple(reversed(x.samples)))
    row = summarise(replace(run, variants=(run.variants[0], turned))).row("x")
    assert row.case.speedup.low == pytest.approx(2.0)


def test_starts_that_differ_widen_the_bounds() -> None:
    run = make_run({"x": Candidate(2.0, (1.0,), confirmed_speedup=2.0)}, rounds=3, confirmed="x")

    def started(apart: float, starts: int) -> Run:
        """Each round of the confirmation is a start of its own, or all are one; the rounds' times lie `apart`."""
        variants = [
            replace(
                b,
                samples=tuple(
                    replace(
                        s,
                        launch=1 + s.round % starts,
                        case_ns=int(s.case_ns * (1 + apart * (s.round - 1) * (b.name == "x"))),
                    )
                    if s.phase == CONFIRMATION
                    else s
                    for s in b.samples
                ),
            )
            for b in run.variants
        ]
        return replace(run, variants=tuple(variants))

    item, three = (summarise(started(0.05, starts)).confirmation for starts in (1, 3))
    assert (item.launches, three.launches, item.pairs, three.pairs) == (1, 3, 48, 48)
    assert item.speedup.estimate == pytest.approx(three.speedup.estimate, rel=2e-3)
    assert item.reduction.high - item.reduction.low < 0.1
    assert three.reduction.high - three.reduction.low > 4  # 2.9 standard errors of 2.9 % on both sides of half the time
    alike = summarise(started(0.0, 3)).confirmation
    assert alike.reduction.high - alike.reduction.low < 0.1


# --- the run ---------------------------------------------------------------------------------------------------------


def test_the_winner_confirmed_on_fresh_samples_is_the_verdict() -> None:
    summary = summarise(make_run({"a": Candidate(2.0), "b": CONFIRMED_FAST}, confirmed="b"))
    assert (summary.verdict, summary.best, summary.subject) == (CONFIRMED, "b", "b")
    assert summary.headline.startswith("CONFIRMED: b reduces the case time by 75.0 % (at least 74.9 %")
    assert summary.headline.endswith("with 95 % confidence), accuracy kept within the margins")


def test_the_confirmation_alone_gives_the_speed() -> None:
    lucky = Candidate(4.0, confirmed_speedup=1.02)
    summary = summarise(make_run({"a": lucky}, confirmed="a"))
    assert summary.verdict == REFUTED
    assert verdicts(summary)["a"] == CONFIRMED
    assert "case time reduced by 2.0 %" in summary.reasons[0]


def test_without_a_confirmation_nothing_is_confirmed() -> None:
    summary = summarise(replace(make_run({"a": FAST}, status=INTERRUPTED), folder=Path("my  runs/7")))
    assert summary.verdict == INCONCLUSIVE
    assert "`bench run --resume --out 'my  runs/7'`" in summary.reasons[0]


def test_an_interrupted_run_is_not_confirmed() -> None:
    summary = summarise(make_run({"a": CONFIRMED_FAST}, confirmed="a", status=INTERRUPTED))
    assert summary.verdict == INCONCLUSIVE
    assert "`bench run --resume --out DIR`" in summary.headline


def test_an_interrupted_run_refutes_only_what_cannot_be_saved() -> None:
    slow, pending = Candidate(1.0), variant("b", PENDING)
    assert summarise(make_run({"a": slow, "b": pending}, status=INTERRUPTED)).verdict == INCONCLUSIVE
    assert summarise(make_run({"a": slow}, status=INTERRUPTED)).verdict == REFUTED


def test_the_baseline_against_itself_is_refuted() -> None:
    run = make_run({"torch-fp32#2": Candidate(1.0)})
    assert summarise(run).verdict == REFUTED
    assert choose(run, claim_of(run)) is None


def test_every_accuracy_lost_is_refuted_without_a_best() -> None:
    summary = summarise(make_run({"a": replace(FAST, lesion=-0.1), "b": replace(FAST, whole=-0.1)}))
    assert (summary.verdict, summary.best) == (REFUTED, None)
    assert [reason[:2] for reason in summary.reasons] == ["a:", "b:"]


def test_the_fastest_whose_accuracy_is_kept_is_best() -> None:
    undecided = Candidate(9.0, lesion=(-0.018, 0.012))
    run = make_run({"a": Candidate(2.0), "b": FAST, "c": undecided, "d": replace(FAST, speedup=12.0, lesion=-0.1)})
    assert choose(run, claim_of(run)) == "b"
    assert summarise(run).best == "b"


def test_a_slow_but_accurate_backend_does_not_stand_in_for_an_undecided_fast_one() -> None:
    run = make_run({"a": Candidate(1.0), "b": replace(FAST, lesion=(-0.018, 0.012))})
    assert choose(run, claim_of(run)) == "b"
    assert summarise(run).verdict == INCONCLUSIVE


@pytest.mark.parametrize("status", [SKIPPED, FAILED])
def test_nothing_compared_is_inconclusive(status: str) -> None:
    run = make_run({"a": variant("a", status, "no such device")})
    summary = summarise(run)
    assert (summary.verdict, summary.best) == (INCONCLUSIVE, None)
    became = "was skipped" if status == SKIPPED else "failed"
    assert summary.reasons == (f"nothing was compared with the baseline: a {became}: no such device",)
    assert choose(run, claim_of(run)) is None
    assert verdicts(summary) == {BASELINE: None, "a": None}


def test_why_each_of_several_was_not_compared_is_said() -> None:
    lost = {name: variant(name, FAILED, f"{name} crashed", "mend it") for name in ("a", "b")}
    assert summarise(make_run(lost)).headline == (
        "INCONCLUSIVE: nothing was compared with the baseline: a failed: a crashed; to mend it: mend it; "
        "b failed: b crashed; to mend it: mend it"
    )


def test_a_baseline_alone_is_told_what_to_add() -> None:
    assert summarise(make_run({})).headline == (
        "INCONCLUSIVE: nothing was compared with the baseline, as it ran alone: add a backend to --backends, a recipe "
        "or a --command"
    )


@pytest.mark.parametrize("status", [SKIPPED, FAILED])
@pytest.mark.parametrize("candidate", [FAST, replace(FAST, lesion=-0.1)], ids=["fast", "lossy"])
def test_a_lost_baseline_decides_nothing_and_is_named(status: str, candidate: Candidate) -> None:
    """Also where it had been timed before: what it gave counts nothing then, and no resumed run goes on."""
    run = make_run({"a": candidate})
    lost = replace(run.variants[0], status=status, reason="out of memory")
    summary = summarise(
        replace(run, variants=(lost, *run.variants[1:]), record=replace(run.record, status=INTERRUPTED))
    )
    became = "was skipped" if status == SKIPPED else "failed"
    reason = f"the baseline {BASELINE} {became}: out of memory; start a new run"
    assert (summary.headline, summary.reasons) == (f"INCONCLUSIVE: {reason}", (reason,))
    assert exit_code(summary) == exit_codes.BACKEND_LOST


def test_an_unfinished_run_that_shows_nothing_yet_says_how_to_finish_it() -> None:
    run = make_run({"a": Candidate(4.0, confirmed_speedup=4.0)}, cases=6, confirmed="a", status=INTERRUPTED)
    fresh = [sample for sample in run.variant("a").samples if sample.phase == CONFIRMATION]
    kept = tuple(sample for sample in run.variant("a").samples if sample not in fresh[2:])
    summary = summarise(replace(run, variants=(run.variants[0], replace(run.variant("a"), samples=kept))))
    assert summary.reasons[0] == "the run did not come to its end: `bench run --resume --out DIR` finishes it"
    assert "on 2 cases, but a claim with 95 % confidence needs at least 5 cases" in summary.reasons[1]
    assert exit_code(summary) == exit_codes.INCONCLUSIVE


def test_a_winner_that_failed_in_the_confirmation_is_inconclusive() -> None:
    """Also where it took some of the fresh samples before it failed, of which nothing is shown."""
    run = make_run({"a": CONFIRMED_FAST, "b": Candidate(2.0)}, confirmed="a")
    lost = replace(run.variant("a"), status=FAILED, reason="killed")
    summary = summarise(replace(run, variants=(run.variants[0], lost, run.variants[2])))
    assert (summary.verdict, summary.best) == (INCONCLUSIVE, "a")
    assert (summary.headline, summary.reasons) == ("INCONCLUSIVE: a failed: killed", ("a failed: killed",))
    assert (summary.confirmation, summary.speed.cases) == (None, 0)
    assert [each.name for each in criteria(summary) if each.result == PASS] == ["the run came to its end"]


def test_required_backends_that_are_missing_are_listed() -> None:
    run = make_run(
        {"a": FAST, "b": variant("b", SKIPPED, "no"), "c": variant("c", FAILED, "no")},
        required=("a", "b", "c", "d"),
    )
    assert summarise(run).missing_required == ("b", "c", "d")


# --- a claim ---------------------------------------------------------------------------------------------------------


def test_a_stricter_claim_is_judged_anew() -> None:
    run = make_run({"a": CONFIRMED_FAST}, confirmed="a")
    assert summarise(run, claim_of(run, min_reduction_pct=80.0)).verdict == REFUTED
    assert summarise(run, claim_of(run, min_reduction_pct=70.0)).verdict == CONFIRMED


def test_a_tighter_margin_is_judged_anew() -> None:
    run = make_run({"a": replace(CONFIRMED_FAST, whole=-0.002)}, confirmed="a")
    assert summarise(run).verdict == CONFIRMED
    assert summarise(run, claim_of(run, max_dsc_drop=0.001)).verdict == REFUTED


def test_a_claim_about_one_backend_is_judged_by_its_interleaved_samples() -> None:
    run = make_run({"a": CONFIRMED_FAST, "b": Candidate(2.0), "c": Candidate(1.0)}, confirmed="a")
    b, c = (summarise(run, claim_of(run, variant=name)) for name in "bc")
    assert (b.verdict, b.subject, b.best) == (CONFIRMED, "b", "a")
    assert (c.verdict, c.subject) == (REFUTED, "c")


def test_a_claim_about_the_winner_is_judged_by_its_confirmation() -> None:
    run = make_run({"a": Candidate(4.0, confirmed_speedup=1.0)}, confirmed="a")
    assert any(s.phase == CONFIRMATION for s in run.variant("a").samples)
    assert summarise(run, claim_of(run, variant="a")).verdict == REFUTED


def test_a_claim_about_a_skipped_backend_is_inconclusive() -> None:
    run = make_run({"a": FAST, "b": variant("b", SKIPPED, "no package", "pip install it")})
    summary = summarise(run, claim_of(run, variant="b"))
    assert summary.verdict == INCONCLUSIVE
    assert summary.reasons == ("b was skipped: no package; to mend it: pip install it",)


@pytest.mark.parametrize(("name", "said"), [("z", "no variant 'z'; it has a"), (BASELINE, "is the baseline")])
def test_a_claim_about_no_candidate_is_an_error(name: str, said: str) -> None:
    run = make_run({"a": FAST})
    with pytest.raises(RecordError, match=said):
        summarise(run, claim_of(run, variant=name))


# --- rounds ----------------------------------------------------------------------------------------------------------


def test_settled_once_every_live_candidate_is() -> None:
    doubtful = Candidate(1.13, jitter=(0.9, 1.0, 1.2))
    fine = make_run({"a": FAST, "b": Candidate(1.0), "c": variant("c", FAILED, "no")})
    assert converged(fine, claim_of(fine))
    run = make_run({"a": FAST, "b": doubtful}, rounds=1)
    assert not converged(run, claim_of(run))
    unmeasured = make_run({"a": FAST, "b": variant("b")})
    assert not converged(unmeasured, claim_of(unmeasured))


def test_an_interim_analysis_decides_less_than_a_bound_by_itself() -> None:
    run = make_run({"x": CLOSE}, rounds=3)
    assert not converged(run, claim_of(run))
    fixed = make_run({"x": CLOSE}, rounds=3, asked=3)
    assert converged(fixed, claim_of(fixed))


def test_a_verdict_without_a_figure_is_not_settled() -> None:
    """Clearly no faster, but by a bound that says little else."""
    wide = make_run({"x": Candidate(0.8, jitter=(1.0, 1.3, 0.8, 1.1, 0.9))}, rounds=1, asked=1)
    row = summarise(wide).row("x")
    assert row.verdict == REFUTED
    assert row.case.half_width > 0.02
    assert not converged(wide, claim_of(wide))
    exact = make_run({"x": Candidate(0.8)}, rounds=1, asked=1)
    assert converged(exact, claim_of(exact))


def test_too_few_cases_are_settled_after_one_round() -> None:
    run = make_run({"a": FAST}, cases=3, rounds=1)
    assert converged(run, claim_of(run))
    a = run.variant("a")
    begun = replace(run, variants=(run.variants[0], replace(a, status=PENDING, samples=a.samples[:2])))
    assert not converged(begun, claim_of(begun))


def test_candidates_still_pending_are_chosen_from() -> None:
    run = make_run({"a": FAST})
    pending = replace(run, variants=tuple(replace(b, status=PENDING) for b in run.variants))
    assert choose(pending, claim_of(run)) == "a"


def test_a_complete_run_is_not_told_to_be_resumed() -> None:
    """A milder claim than the run's own, for which it took no fresh samples."""
    run = make_run({"x": Candidate(2.0, lesion=-0.02)})
    outcome = summarise(run, replace(summarise(run).claim, max_dsc_drop=0.05))
    assert outcome.verdict == INCONCLUSIVE
    assert "of which this run took none: run again with this claim" in outcome.headline
    assert "--resume" not in outcome.headline
