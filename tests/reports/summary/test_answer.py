"""What is asked first, of runs in any state."""

from dataclasses import replace
from math import isnan

import pytest

from reports.formatting import at_least, at_most, bounded, bounds, least_change, significant
from reports.records.record import CONFIRMATION, FAILED, INTERRUPTED, PENDING
from reports.render import render
from reports.summary.answer import Answer, answer
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, by_agreement, make_run, on_gpu, segmenting, variant


def of(candidates, **settings) -> Answer:
    return answer(summarise(make_run(candidates, **settings)))


def test_the_figures_are_those_of_the_confirmation() -> None:
    said = of({"fast": Candidate(5.0, confirmed_speedup=4.0)}, confirmed="fast")
    assert (said.time.value, said.time.label, said.time.state) == ("75.0 %", "less time a case", "kept")
    assert said.time.detail == "at least 74.9 % with 95 % confidence, on fresh samples"
    before, after = (float(each) for each in said.throughput.value.split(" → "))
    assert before == pytest.approx(60 / 1.4, rel=0.01), "16 cases of 0.8 s and a tenth of that more each"
    assert after == pytest.approx(4 * before, rel=0.01), "by the fresh samples too"
    assert said.throughput.detail == f"by {BASELINE} and by fast"
    assert (said.accuracy.value, said.accuracy.state) == ("kept", "kept")


def test_a_case_that_was_timed_more_often_counts_once() -> None:
    """As a confirmation times some cases in every launch and each of the others in one."""
    run = make_run({"fast": Candidate(5.0, (1.0,), confirmed_speedup=4.0)}, confirmed="fast")
    repeated = {case.name for case in run.record.cases[:8]}

    def often(own):
        again = tuple(s for s in own.samples if s.phase != CONFIRMATION or s.round == 0 or s.case in repeated)
        return replace(own, samples=again)

    fewer = replace(run, variants=tuple(map(often, run.variants)))
    assert answer(summarise(fewer)).throughput == answer(summarise(run)).throughput


def test_speed_and_accuracy_are_judged_each_for_itself() -> None:
    said = of({"fast": Candidate(5.0, lesion=-0.02)})
    assert (said.time.state, said.accuracy.state) == ("kept", "lost")
    assert said.accuracy.detail == "lost most: lesion DSC fell by 0.0200 (margin 0.005)"
    said = of({"slow": Candidate(0.5)})
    assert (said.time.label, said.time.value, said.time.state) == ("more time a case", "99.9 %", "lost")
    assert said.time.detail.startswith("at least 99.")
    assert said.accuracy.state == "kept"


def test_what_hardly_differs_has_both_bounds() -> None:
    said = of({"same": Candidate(1.0, (1.0, 1.05, 0.95))})
    assert " more to " in said.time.detail
    assert said.time.state == "lost"


def test_no_bound_says_more_than_was_shown() -> None:
    assert (at_least(81.28), at_most(81.22), at_least(75.0 - 1e-12)) == ("81.2 %", "81.3 %", "75.0 %")
    assert (at_least(-0.02), at_most(float("nan"))) == ("-0.1 %", "not measured")
    assert bounded(81.28, 80.58, 82.02) == "81.3 % [80.5, 82.1]"
    assert bounds(4.438, 5.811, 2) == " [4.43, 5.82]"
    assert [least_change(each) for each in (-0.00501, 0.00019, 0.00006, 0.0, -2.4e-6)] == [
        "-0.0051", "+0.0001", "±0", "±0", "-3e-06",
    ]  # fmt: skip
    assert [significant(each) for each in (0.0, 0.00413, 0.0669, 0.4083, 0.9996, 4.2, 1240.3)] == [
        "0.00", "0.00413", "0.0669", "0.408", "1.000", "4.20", "1,240",
    ]  # fmt: skip
    figures = answer(summarise(make_run({"fast": Candidate(4.99, (1.0,))})))
    assert (figures.time.value, figures.time.detail[:15]) == ("80.0 %", "at least 79.9 %")


def test_few_cases_have_no_bound() -> None:
    said = of({"fast": Candidate(2.0)}, cases=3)
    assert (said.time.value, said.time.detail) == ("50.0 %", "without a bound: 3 cases only")
    assert said.time.state == said.accuracy.state == "undecided"


def test_the_claim_is_a_sentence() -> None:
    assert of({"fast": Candidate(2.0)}).claim == (
        f"a case takes at least 10 % less time than by {BASELINE}, and no mean score falls by more than its margin "
        "(DSC 0.005, NSD 0.01, macro-F1 0.02)"
    )
    run = make_run({"fast": Candidate(2.0)}, cases=36)
    assert "macro-F1" not in answer(summarise(segmenting(run))).claim
    summary = summarise(run, replace(summarise(run).claim, variant="fast"))
    assert "10 % less time by fast than by" in answer(summary).claim
    agreed = answer(summarise(by_agreement(run)))
    assert "its masks agree with the baseline's: mean DSC at least 0.995 and NSD 0.99" in agreed.claim
    assert agreed.accuracy.label == "agreement with the baseline"


def test_the_worst_case_is_named_with_what_it_lost() -> None:
    lesion = (0.0, 0.0, -0.003, *(0.0,) * 13)
    assert of({"fast": Candidate(2.0, lesion=lesion)}).worst_case == (
        "quiz_2_002: lesion DSC -0.0030, 0.019 % of its voxels changed, the same class"
    )
    assert of({"fast": Candidate(2.0, flips=2)}).worst_case.endswith("class 0 and not 1 (truth 1)")
    assert of({"fast": Candidate(2.0)}).worst_case == (
        "none: no mask or class of the 16 cases differs from the baseline's"
    )


def test_a_case_that_is_the_same_does_not_speak_for_those_that_differ() -> None:
    run = make_run({"fast": Candidate(2.0, whole=0.002, lesion=(0.0, *(0.003,) * 15))})
    baseline, fast = run.variants
    equal = replace(fast.scores[0], structures=baseline.scores[0].structures, differing_voxels=0)
    run = replace(run, variants=(baseline, replace(fast, scores=(equal, *fast.scores[1:]))))
    assert answer(summarise(run)).worst_case.startswith("quiz_0_003: whole-pancreas DSC +0.0020, ")


def test_the_machine_is_that_of_the_run() -> None:
    run = make_run({"fast": Candidate(2.0)}, device="cuda")
    assert answer(summarise(on_gpu(run))).machine == "Example GPU, Example CPU, 2 cores, 8.00 GiB"
    assert of({"fast": Candidate(2.0)}).machine == "Example CPU, 2 cores, 8.00 GiB"


@pytest.mark.parametrize(
    "run",
    [
        make_run({}),
        make_run({"fast": variant("fast", PENDING)}, status=INTERRUPTED),
        make_run({"fast": variant("fast", FAILED, "killed")}),
        make_run({}, baseline=variant(BASELINE, FAILED, "out of memory"), cases=0),
    ],
)
def test_what_was_not_measured_says_so(run) -> None:
    said = answer(summarise(run))
    assert {each.value for each in said.figures} == {"not measured"}
    assert said.worst_case == "not measured"
    assert not any(each.state for each in said.figures)


def test_a_required_variant_that_was_not_measured_yet_is_missing() -> None:
    run = make_run({"fast": Candidate(2.0), "late": variant("late", PENDING)}, status=INTERRUPTED, required=("late",))
    assert summarise(run).missing_required == ("late",)
    assert summarise(make_run({"fast": Candidate(2.0)}, required=("fast",))).missing_required == ()


def test_a_baseline_without_classes_has_no_flips() -> None:
    """An own command may give none, whatever the network beside it gives."""
    run = make_run({"fast": Candidate(2.0, flips=3)})
    scores = {v.name: tuple(replace(s, baseline_subtype=None) for s in v.scores) for v in run.variants}
    scores[BASELINE] = tuple(replace(score, subtype=None) for score in scores[BASELINE])
    run = replace(run, variants=tuple(replace(v, scores=scores[v.name]) for v in run.variants))
    summary = summarise(run)
    accuracy = summary.row("fast").accuracy
    assert (accuracy.flips, isnan(accuracy.mcnemar.p)) == ((), True)
    assert not any(case.flipped for case in summary.worst_cases)
    document = render(summary, "markdown")
    assert "macro-F1 is not applicable, as the baseline gives no class" in document
    assert "McNemar" not in document
