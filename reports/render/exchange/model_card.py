"""A model card in the schema of the Coalition for Health AI, filled as far as a run knows: https://mc.chai.org (v0.2).

Its text fields hold Markdown, its results small JSON documents. Two bounds of one-sided 95 % confidence are the ends of
a two-sided interval of 90 %, which is the level that the card states.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any

from reports.decision.verdict import MARGINS, SHOWN_BY, own_margins
from reports.formatting import count, plain_percent
from reports.records.record import AGREEMENT, RunRecord
from reports.render.commonmark import text
from reports.render.junit import xml_text
from reports.stats.bootstrap import Interval
from reports.summary.summary import Row, Summary

NAMESPACE = "https://mc.chai.org/v0.2/schema.xsd"
NOT_STATED = "Not stated."
_LEVEL = 90  # per cent, of a two-sided interval
_Result = tuple[str, dict[str, Any]]


def render(summary: Summary) -> str:
    """The card as XML of CHAI's schema v0.2; "Not stated." stands wherever the run does not know."""
    card = ET.Element("AppliedModelCard", xmlns=NAMESPACE)
    card.append(ET.Comment(" Written by voxbench from a run; CHAI has neither seen nor approved it. "))
    _add(card, "BasicInfo", ("ModelName", _name(summary)), "ModelDeveloper", "DeveloperContact")
    _add(
        card, "ReleaseInfo", "ReleaseStage", "ReleaseDate", ("ReleaseVersion", _version(summary)), "GlobalAvailability"
    )
    model = _add(card, "ModelSummary", ("Summary", _summary(summary)))
    _add(model, "Keywords", *(("Keyword", word) for word in ("segmentation", *summary.record.task.structures)))
    _add(
        card, "UsesAndDirections", "IntendedUseAndWorkflow", "PrimaryIntendedUsers", "HowToUse",
        "TargetedPatientPopulation", "CautionedOutOfScopeSettings",
    )  # fmt: skip
    _add(
        card, "Warnings", ("KnownRisksAndLimitations", _limits(summary)), "KnownBiasesOrEthicalConsiderations",
        "ClinicalRiskLevel",
    )  # fmt: skip
    _trust(card, summary)
    _key_metrics(card, summary)
    _add(card, "Resources", "PeerReviewedPublications", "PatientConsentOrDisclosure")
    _add(card, "Bibliography").text = ""
    ET.indent(card)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(card, encoding="unicode") + "\n"


def _add(parent: ET.Element, tag: str, *children: str | tuple[str, str]) -> ET.Element:
    """An element with children of text; a name alone is a fact that is not stated."""
    element = ET.SubElement(parent, tag)
    for child in children:
        name, value = (child, NOT_STATED) if isinstance(child, str) else child
        ET.SubElement(element, name).text = xml_text(value)
    return element


def _name(summary: Summary) -> str:
    return text(summary.record.task.name) or NOT_STATED


def _version(summary: Summary) -> str:
    record = summary.record
    return (
        f"Weights with SHA-256 {record.checkpoint.weights_sha256}, run as {text(summary.subject or record.baseline)}. "
        "A release of a product is not stated."
    )


def _summary(summary: Summary) -> str:
    record, subject = summary.record, summary.row(summary.subject or summary.record.baseline)
    made = f" Run as {text(subject.name)}: {text(subject.settings)}." if subject else ""
    return (
        f"A 3D network ({text(record.checkpoint.architecture)}, {record.checkpoint.parameters:,} parameters) that "
        f"labels {text(', '.join(record.task.structures))}.{made} This card holds what a benchmark of its inference "
        f"has shown: {text(summary.headline)}."
    )


def _limits(summary: Summary) -> str:
    made_up = "The cases are made-up volumes, and no patients." if summary.record.data.demo else ""
    shown_by = "No ground truth was used: the scores are those to the baseline's own output." * (
        summary.claim.accuracy == AGREEMENT
    )
    lines = [
        f"Shown on {count(summary.cases, 'case')}, {_machines(summary.record)} and the versions of the run alone.",
        made_up,
        shown_by,
        "Nothing here is a clinical validation. Clinical risks: not stated.",
        *(f"{text(warning)}." for warning in summary.warnings),
    ]
    return "\n".join(f"- {line}" for line in lines if line)


def _trust(card: ET.Element, summary: Summary) -> None:
    record = summary.record
    trust = _add(card, "TrustIngredients")
    classes = f", and one of {record.task.classes} classes of the case" if record.task.classes else ""
    channels = text(", ".join(record.task.channels)) or "not stated"
    labels = text(", ".join(f"{value} {name}" for name, value in record.task.labels.items())) or "not stated"
    _add(
        trust, "AISystemFacts",
        ("OutcomesAndOutputs", f"A mask in the image's own geometry{classes}."),
        ("ModelType", f"3D neural network, {text(record.checkpoint.architecture)}."),
        "InputDataSource",
        ("OutputAndInputDataTypes", f"Input: a volume, channels: {channels}. Output: a mask, labels: {labels}."),
        "DevelopmentDataCharacterization", "BiasMitigationApproaches", "OngoingMaintenance",
    )  # fmt: skip
    _add(trust, "TransparencyInformation", "FundingSource", "StakeholdersConsulted")


def _key_metrics(card: ET.Element, summary: Summary) -> None:
    row = summary.row(summary.subject)
    metrics = _add(card, "KeyMetrics")
    _metric(metrics, "UsefulnessUsabilityEfficacy", summary, _goal(summary), list(_scores(summary, row)))
    _metric(metrics, "FairnessEquity", None, NOT_STATED, [])
    goal = f"A case takes at least {plain_percent(summary.claim.min_reduction_pct)} less time than by the reference."
    _metric(metrics, "SafetyReliability", summary, goal, list(_times(summary, row)))


def _metric(parent: ET.Element, tag: str, summary: Summary | None, goal: str, results: list[_Result]) -> None:
    """`summary` is None where nothing was tested."""
    metric = _add(parent, tag, ("MetricGoal", goal))
    holder = _add(metric, "Results")
    for label, result in results or [("Not measured", {"kind": "single", "value": None})]:
        _add(holder, "MetricResult", ("Label", label), ("ValueJson", json.dumps(result, allow_nan=False)))
    if summary is None:
        facts = dict.fromkeys(("Interpretation", "TestType", "TestingDataDescription"), NOT_STATED)
        facts["ValidationProcessAndJustification"] = NOT_STATED
    else:
        facts = {
            "Interpretation": "\n".join(f"- {text(reason)}" for reason in (summary.headline, *summary.reasons)),
            "TestType": f"Benchmark on stored cases: both in turns on {_machines(summary.record)}.",
            "TestingDataDescription": _data(summary.record),
            "ValidationProcessAndJustification": _process(summary),
        }
    for name, value in facts.items():
        ET.SubElement(metric, name).text = xml_text(value)


def _machines(record: RunRecord) -> str:
    """Of a merged run each shard ran on one, and some may have run on the same."""
    return f"the machines of {count(len(record.shards), 'shard')}" if record.shards else "one machine"


def _goal(summary: Summary) -> str:
    claim = summary.claim
    margins = ", ".join(f"{name} {getattr(claim, name):g}" for name in MARGINS[claim.accuracy])
    margins += own_margins(summary.record.task)
    return f"{SHOWN_BY[claim.accuracy].capitalize()} within the margins of the claim: {margins}."


def _scores(summary: Summary, row: Row | None) -> Iterator[_Result]:
    by_agreement = summary.claim.accuracy == AGREEMENT
    end = " to the reference's output" if by_agreement else ""
    for key, metric in (row.accuracy.metrics if row else {}).items():
        if metric.applicable and isfinite(metric.value):
            yield f"{key.label}{end}", _single(metric.value)
            yield from _interval(f"{key.label}{end}, {'difference to 1' if by_agreement else 'change'}", metric.delta)


def _times(summary: Summary, row: Row | None) -> Iterator[_Result]:
    if row is None:
        return
    speed = summary.confirmation or row.case
    yield from _interval(f"Reduction of the {speed.scope}", speed.reduction, "%")
    yield from _interval(f"Speedup of the {speed.scope}", speed.speedup)
    if isfinite(row.latency.median):
        yield (
            "Median time of a call" if row.settings.one_call else "Median time of a case",
            _single(row.latency.median, "seconds"),
        )
    if row.accuracy.cases:
        yield "Voxels labelled otherwise than by the reference", _single(100 * row.accuracy.voxel_disagreement, "%")


def _interval(label: str, interval: Interval, unit: str | None = None) -> Iterable[_Result]:
    """With its bounds, or without where there are none; nothing where nothing was measured."""
    if not isfinite(interval.estimate):
        return []
    if not (isfinite(interval.low) and isfinite(interval.high)):
        return [(label, _single(interval.estimate, unit))]
    value = {"kind": "estimate_ci", "estimate": interval.estimate, "lower": interval.low, "upper": interval.high}
    return [(label, value | {"level": _LEVEL} | ({"unit": unit} if unit else {}))]


def _single(value: float, unit: str | None = None) -> dict[str, Any]:
    return {"kind": "single", "value": value} | ({"unit": unit} if unit else {})


def _data(record: RunRecord) -> str:
    masks = sum(case.mask is not None for case in record.cases)
    return (
        f"{count(len(record.cases), 'case')} of the split {text(record.data.split)}, {masks} with a mask; SHA-256 of "
        f"their files {record.data.sha256}. Patients' age, sex, origin and how they were chosen: not stated."
    )


def _process(summary: Summary) -> str:
    again = "the winner was timed again on fresh samples" if summary.confirmation else "nothing was timed again"
    plan = text(summary.declaration) if summary.declaration else "the claim was not declared in a plan before the run"
    return (
        f"Run {text(summary.record.id)} of voxbench {text(summary.record.versions.get('voxbench', ''))}: {plan}. Cases "
        f"were timed in turns from image file to mask file and scored from the files; {again}. Bounds by bootstrap "
        "over the cases; each has one-sided 95 % confidence, so that both together are an interval of "
        f"{_LEVEL} %."
    )
