"""The verdicts as JUnit XML, which continuous integration shows beside other tests."""

import re
import xml.etree.ElementTree as ET

from reports.decision.verdict import (
    CONFIRMED,
    INCONCLUSIVE,
    KEPT,
    LOST,
    REFUTED,
    UNDECIDED,
    agreement_reason,
    metric_state,
    score_reason,
)
from reports.formatting import SHOWN
from reports.records.record import FAILED, SKIPPED, TRUTH
from reports.summary.summary import Row, Summary

_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")  # XML 1.0, production [2] Char


def render(summary: Summary) -> str:
    """A test case for each variant, one for the required variants where there are any, and one for the run's verdict.

    Skipped variants are skipped, failed ones errors, refuted ones failures. The run's case passes only when the claim
    is confirmed: what is not proved must not pass a gate. A variant that is merely undecided is skipped.
    """
    cases = [_variant_case(row) for row in summary.rows]
    if summary.record.settings.required:
        cases.append(_required_case(summary))
    cases.append(_verdict_case(summary))
    suite = ET.Element("testsuite", name="voxbench", timestamp=summary.record.created, tests=str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    ET.SubElement(ET.SubElement(suite, "properties"), "property", name="baseline", value=summary.record.baseline)
    suite.extend(cases)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _test_case(name: str, classname: str, reasons: tuple[str, ...] = ()) -> ET.Element:
    case = ET.Element("testcase", classname=classname, name=xml_text(name))
    if reasons:
        ET.SubElement(case, "system-out").text = xml_text("\n".join(reasons))
    return case


def _with_outcome(case: ET.Element, tag: str, message: str, kind: str | None = None) -> ET.Element:
    mark = ET.Element(tag, message=xml_text(message))
    if kind:
        mark.set("type", kind)
    case.insert(0, mark)
    return case


def _variant_case(row: Row) -> ET.Element:
    case = _test_case(row.name, "voxbench.variant", (*row.reasons, *_scores_of_many(row)))
    if row.status == SKIPPED:
        return _with_outcome(case, "skipped", row.reason or "no reason recorded")
    if row.status == FAILED:
        log = f" (log: {row.log})" if row.log else ""
        return _with_outcome(case, "error", (row.reason or "no reason recorded") + log, FAILED)
    if row.verdict == REFUTED:
        return _with_outcome(case, "failure", row.reasons[0], REFUTED)
    if row.verdict == INCONCLUSIVE:
        return _with_outcome(case, "skipped", f"inconclusive: {row.reasons[0]}")
    return case


def _scores_of_many(row: Row) -> tuple[str, ...]:
    """Each score, where the reasons name only some of them."""
    if not row.reasons or len(row.accuracy.metrics) <= SHOWN:
        return ()
    states = {key: metric_state(key, own, row.margins[key]) for key, own in row.accuracy.metrics.items()}
    reason = score_reason if row.accuracy.shown_by == TRUTH else agreement_reason
    return tuple(
        f"{state}: {reason(key, row.accuracy.metric(key), state, row.margins[key])}"
        for key, state in states.items()
        if state in (KEPT, LOST, UNDECIDED)
    )


def _required_case(summary: Summary) -> ET.Element:
    case = _test_case("required variants", "voxbench.run")
    if summary.missing_required:
        return _with_outcome(case, "error", f"not measured: {', '.join(summary.missing_required)}", "missing")
    return case


def _verdict_case(summary: Summary) -> ET.Element:
    shown_by = f"shown by {summary.claim.accuracy}"
    case = _test_case("verdict", "voxbench.run", (summary.headline, *summary.reasons, shown_by))
    return case if summary.verdict == CONFIRMED else _with_outcome(case, "failure", summary.headline, summary.verdict)


def xml_text(text: str) -> str:
    """What XML can hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
