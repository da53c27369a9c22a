"""The model card is one by CHAI's own schema (`tests/reports/render/chai`), and claims nothing that the run lacks."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import xmlschema

from reports.records.record import FAILED
from reports.records.store import Run
from reports.render import render
from reports.render.exchange.model_card import NAMESPACE, NOT_STATED
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, LESION, Candidate, by_agreement, make_run, segmenting, variant

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[1] / "chai" / "schema.xsd", allow="local")
SPACE = {"mc": NAMESPACE}


def confirmed() -> Run:
    return make_run({"fast": Candidate(4.0, lesion=(-0.001, 0.002), confirmed_speedup=4.2)}, confirmed="fast")


def nothing() -> Run:
    return make_run({}, baseline=variant(BASELINE, FAILED, "out of \x00memory & <more>"), cases=0)


RUNS: dict[str, Callable[[], Run]] = {
    "confirmed": confirmed, "nothing": nothing, "few": lambda: make_run({"x": Candidate(2.0)}, cases=3),
    "agreement": lambda: by_agreement(confirmed()), "segmenting": lambda: segmenting(confirmed()),
}  # fmt: skip


def card(run: Run) -> ET.Element:
    return ET.fromstring(render(summarise(run), "model-card"))


def results(of: ET.Element, topic: str) -> dict[str, dict]:
    return {
        result.findtext("mc:Label", namespaces=SPACE): json.loads(result.findtext("mc:ValueJson", namespaces=SPACE))
        for result in of.findall(f".//mc:{topic}//mc:MetricResult", SPACE)
    }


@pytest.mark.parametrize("name", RUNS)
def test_it_is_valid_by_the_published_schema(name):
    SCHEMA.validate(render(summarise(RUNS[name]()), "model-card"))


def test_the_schema_would_refuse_another_document():
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        SCHEMA.validate(render(summarise(confirmed()), "model-card").replace("ModelDeveloper", "Developer"))


@pytest.mark.parametrize("judged", [lambda run: run, by_agreement])
def test_margins_of_single_structures_are_not_left_out(judged):
    own = "; some structures have margins of their own"
    run = judged(confirmed())
    task = run.record.task
    structures = {**task.structures, LESION: replace(task.structures[LESION], max_dsc_drop=0.05)}
    special = replace(run, record=replace(run.record, task=replace(task, structures=structures)))
    for form in ("model-card", "markdown"):
        assert own not in render(summarise(run), form)
        assert own in render(summarise(special), form)


def test_figures_and_bounds_are_the_runs():
    summary = summarise(confirmed())
    times, scores = (
        results(card(confirmed()), topic) for topic in ("SafetyReliability", "UsefulnessUsabilityEfficacy")
    )
    reduction = summary.confirmation.reduction
    assert times["Reduction of the case time"] == {
        "kind": "estimate_ci", "estimate": reduction.estimate, "lower": reduction.low, "upper": reduction.high,
        "level": 90, "unit": "%",
    }  # fmt: skip
    lesion = summary.row("fast").accuracy.metric(
        next(k for k in summary.row("fast").margins if k.label == "lesion DSC")
    )
    assert scores["lesion DSC"] == {"kind": "single", "value": lesion.value}
    assert scores["lesion DSC, change"]["lower"] == lesion.delta.low


def test_what_no_run_knows_is_not_stated():
    of = card(confirmed())
    for name in (
        "ModelDeveloper", "DeveloperContact", "ReleaseStage", "IntendedUseAndWorkflow", "PrimaryIntendedUsers",
        "TargetedPatientPopulation", "ClinicalRiskLevel", "DevelopmentDataCharacterization", "FundingSource",
        "PeerReviewedPublications", "PatientConsentOrDisclosure", "KnownBiasesOrEthicalConsiderations",
    ):  # fmt: skip
        assert of.findtext(f".//mc:{name}", namespaces=SPACE) == NOT_STATED, name
    assert results(of, "FairnessEquity") == {"Not measured": {"kind": "single", "value": None}}


def test_by_agreement_no_score_is_taken_for_one_of_the_truth():
    of = card(by_agreement(confirmed()))
    assert all("to the reference's output" in label for label in results(of, "UsefulnessUsabilityEfficacy"))
    assert "No ground truth was used" in of.findtext(".//mc:KnownRisksAndLimitations", namespaces=SPACE)


def test_the_demo_says_that_there_were_no_patients():
    run = confirmed()
    demo = replace(run, record=replace(run.record, data=replace(run.record.data, demo=True)))
    said = [card(each).findtext(".//mc:KnownRisksAndLimitations", namespaces=SPACE) for each in (run, demo)]
    assert ["made-up volumes" in text for text in said] == [False, True]
