"""The verdict where predictions are scored against the baseline's own: each rule, and the words for it."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.decision.accuracy import CLASS_AGREEMENT, DSC, WORST_DSC, MetricKey, columns
from reports.decision.comparability import require_comparable
from reports.decision.regression import NO_REGRESSION, REGRESSION, regression
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, KEPT, LOST, REFUTED, UNDECIDED, Claim, metric_state
from reports.records.record import ABSENT_SKIP, Roi, StructureRecord
from reports.records.store import RecordError, Run
from reports.render import FORMATS, render
from reports.render.csv_tables import cases_csv
from reports.render.several import render_regressions
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, LESION, WHOLE, Candidate, by_agreement, make_run, of_structures, rescored

FAST = Candidate(4.0)
ENOUGH = 36  # cases, none of which shows that more than 10 % change their class


def agreeing(candidate: Candidate = FAST, cases: int = ENOUGH, **changes: Any) -> Run:
    run = make_run({"x": replace(candidate, confirmed_speedup=4.0)}, cases=cases, confirmed="x")
    settings = replace(run.record.settings, **changes)
    return by_agreement(replace(run, record=replace(run.record, settings=settings)))


def said(run: Run) -> tuple[str, str]:
    """The verdict, and what is said of the agreement."""
    summary = summarise(run)
    (reason,) = [reason for reason in summary.reasons if "agreement" in reason]
    return summary.verdict, reason


def one_of_many(loss: float) -> tuple[float, ...]:
    return (-loss, *[0.0] * (ENOUGH - 1))


def test_equal_masks_and_classes_are_confirmed() -> None:
    summary = summarise(agreeing())
    assert summary.headline == (
        "CONFIRMED: x reduces the case time by 75.0 % (at least 74.9 % with 95 % confidence), agreement with the "
        "baseline kept within the margins"
    )
    assert summary.reasons[1] == (
        "agreement with the baseline kept within the margins: whole-pancreas DSC 1 (at least 1 with 95 % confidence; "
        "0.995 required); lesion DSC 1 (at least 1 with 95 % confidence; 0.995 required); whole-pancreas NSD 1 (at "
        "least 1 with 95 % confidence; 0.99 required); lesion NSD 1 (at least 1 with 95 % confidence; 0.99 required); "
        "whole-pancreas worst DSC 1 in every case (0.95 required; observed, so without a bound); lesion worst DSC 1 in "
        "every case (0.95 required; observed, so without a bound); another class in 0 of 36 cases (at most 8.0 % of "
        "all with 95 % confidence; 10 % allowed)"
    )


@pytest.mark.parametrize(
    ("candidate", "verdict", "reason"),
    [
        (replace(FAST, lesion=-0.03), REFUTED, "lost: lesion DSC 0.9700 (at least 0.9700 with 95 % confidence; 0.995"),
        (replace(FAST, lesion=0.03), REFUTED, "lost: lesion DSC 0.9700 (at least"),
        (replace(FAST, nsd=-0.02), REFUTED, "lost: whole-pancreas NSD 0.9800 (at least"),
        (replace(FAST, whole=(-0.009, 0.0)), INCONCLUSIVE, "undecided: whole-pancreas DSC 0.9955 (at least 0.994"),
        (replace(FAST, lesion=one_of_many(0.055)), REFUTED, "lost: lesion worst DSC 0.9450 in quiz_0_000 (0.95 requir"),
        (replace(FAST, lesion=one_of_many(0.04)), CONFIRMED, "kept within the margins: "),
        (replace(FAST, flips=1), INCONCLUSIVE, "undecided: another class in 1 of 36 cases (at most 12.6 % of all with"),
        (replace(FAST, flips=4), REFUTED, "lost: another class in 4 of 36 cases (at most 23.7 % of all with 95 % con"),
    ],
)
def test_each_score_is_held_against_its_margin(candidate: Candidate, verdict: str, reason: str) -> None:
    """However it differs: a score that would be better than the baseline's by the truth is another one, too."""
    result, text = said(agreeing(candidate))
    assert result == verdict
    assert text.startswith(f"agreement with the baseline {reason}")


def test_what_is_lost_is_named_with_its_case() -> None:
    run = agreeing(replace(FAST, lesion=(-0.02, *[-0.01] * (ENOUGH - 1))))
    assert (
        "lesion DSC 0.9897 (at least 0.9891 with 95 % confidence; 0.995 required), lowest in quiz_0_000" in said(run)[1]
    )


@pytest.mark.parametrize(("cases", "changes", "verdict", "end"), [
    (28, {}, INCONCLUSIVE, "; 29 cases without a change would settle it"), (29, {}, CONFIRMED, ""),
    (36, {"max_class_changes": 0.02}, INCONCLUSIVE, "; 149 cases without a change would settle it"),
    (36, {"max_class_changes": 0.0}, INCONCLUSIVE, ", which no number of cases can show"),
])  # fmt: skip
def test_few_cases_do_not_show_that_classes_stay(cases: int, changes: dict, verdict: str, end: str) -> None:
    result, text = said(agreeing(cases=cases, **changes))
    assert (result, text.endswith(end)) == (verdict, True)


def test_the_bound_of_changed_classes_is_exact() -> None:
    metric = summarise(agreeing(replace(FAST, flips=3))).row("x").accuracy.metric(CLASS_AGREEMENT)
    assert -metric.delta.low == pytest.approx(stats.beta.ppf(0.95, 4, 33))
    assert metric.value == pytest.approx(33 / 36)


def test_a_structures_own_margin_counts_for_its_mean() -> None:
    run = make_run({"x": replace(FAST, confirmed_speedup=4.0)}, cases=ENOUGH, confirmed="x")
    structures = {"liver": StructureRecord(labels=(1,), nsd_tolerance_mm=None, max_dsc_drop=0.03),
                  "spleen": StructureRecord(labels=(2,), nsd_tolerance_mm=None)}  # fmt: skip
    verdict, text = said(by_agreement(of_structures(run, structures, {"liver": -0.02, "spleen": -0.001})))
    assert verdict == CONFIRMED
    assert "liver DSC 0.9800 (at least 0.9800 with 95 % confidence; 0.97 required)" in text
    assert "liver worst DSC 0.9800 in quiz_0_000 (0.95 required" in text


def test_what_neither_mask_holds_counts_nothing() -> None:
    run = agreeing(absent=ABSENT_SKIP)
    variants = [
        replace(v, scores=tuple(rescored(s, LESION, dsc=1.0, nsd=1.0, absent=i > 3) for i, s in enumerate(v.scores)))
        for v in run.variants
    ]
    verdict, text = said(replace(run, variants=tuple(variants)))
    assert verdict == INCONCLUSIVE
    assert "lesion DSC rests on 4 cases (32 more are without it), at least 5 are needed" in text


RUNS = {
    KEPT: FAST, LOST: replace(FAST, lesion=-0.1, flips=5), UNDECIDED: replace(FAST, whole=(-0.009, 0.0)),
}  # fmt: skip


@pytest.mark.parametrize("state", RUNS)
@pytest.mark.parametrize("form", FORMATS)
def test_no_document_takes_agreement_for_accuracy(state: str, form: str) -> None:
    document = render(summarise(agreeing(RUNS[state])), form)
    assert not re.search(r"accuracy (un|is |was )?(changed|kept|lost|undecided)|truth \(|macro-F1 [0-9+-]", document)
    assert f"agreement with the baseline {state}" in document or form == "csv"
    assert {"json": '"shown_by": "agreement"', "junit": "shown by agreement", "csv": ",agreement,"}.get(
        form, ""
    ) in document


def test_nothing_of_the_truth_is_in_it_even_if_the_data_hold_it() -> None:
    run = by_agreement(make_run({"x": replace(FAST, flips=2)}, cases=ENOUGH), masks=True)
    summary = summarise(run)
    row = summary.row("x")
    assert [requirement.key for requirement in summary.requirements] == [None]
    assert ([flip.truth for flip in row.accuracy.flips], row.accuracy.f1) == ([None, None], {})
    assert np.isnan(row.accuracy.mcnemar.p)
    assert any("though the data hold masks" in warning for warning in summary.warnings)
    text = render(summary, "markdown")
    assert "| whole-pancreas DSC    |                      0.744 |              not measured |" in text


def test_the_tables_columns_say_what_their_scores_are_of() -> None:
    names = columns(agreeing().record.task, "agreement")
    assert names[MetricKey(DSC, WHOLE)] == "whole_pancreas_dsc_to_baseline"
    assert names[MetricKey(WORST_DSC, LESION)] == "lesion_worst_dsc_to_baseline"
    head = cases_csv(agreeing()).splitlines()[0].split(",")
    assert [name for name in head if "dsc" in name or "nsd" in name] == [
        f"{structure}_{kind}_to_baseline" for kind in ("dsc", "nsd") for structure in ("whole_pancreas", "lesion")
    ]


def test_the_safety_of_a_roi_is_not_applicable() -> None:
    run = agreeing()
    roi = Roi(((0, 9, 0, 9, 0, 9),), False, 1, 1, 0)
    variants = [replace(v, samples=tuple(replace(s, roi=roi) for s in v.samples)) for v in run.variants]
    text = render(summarise(replace(run, variants=tuple(variants))), "markdown").partition("## ROI\n")[2]
    text = text.partition("\n## ")[0]
    (row,) = [line for line in text.splitlines() if line.startswith("| x ")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["36", "0", "36", "432", "not applicable"]
    assert "as nothing is scored against a truth" in text


def test_runs_are_compared_by_what_their_accuracy_is_shown_by() -> None:
    first = agreeing()
    with pytest.raises(RecordError, match="accuracy shown by is truth, there agreement"):
        require_comparable(first, make_run({"x": FAST}, cases=ENOUGH))
    assert regression(first, agreeing()).state == NO_REGRESSION
    few = regression(agreeing(cases=20), agreeing(cases=20))
    assert [(change.name, change.state) for change in few.changes] == [(BASELINE, NO_REGRESSION), ("x", UNDECIDED)]
    worse = regression(first, agreeing(replace(FAST, lesion=-0.02)))
    (change,) = [change for change in worse.changes if change.name == "x"]
    assert (worse.state, change.reasons[0].partition(":")[0]) == (REGRESSION, "agreement with the baseline lost")
    assert "Whether the baseline's own output changed between the runs they do not say." in render_regressions(
        [worse], "markdown"
    )


def test_the_worst_case_is_lost_or_kept_as_observed() -> None:
    run = agreeing(replace(FAST, lesion=one_of_many(0.05)))
    metric = summarise(run).row("x").accuracy.metric(MetricKey(WORST_DSC, LESION))
    claim = Claim.of(run.record.settings)
    margins = (replace(claim, min_worst_dsc=least).margin(MetricKey(WORST_DSC, LESION)) for least in (0.9, 0.96))
    assert [metric_state(MetricKey(WORST_DSC, LESION), metric, margin) for margin in margins] == [KEPT, LOST]
