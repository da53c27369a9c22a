"""The verification report in Markdown."""

from collections import Counter

from reports.formatting import count
from reports.records.record import AGREEMENT
from reports.render.commonmark import section, text
from reports.render.verification.criteria import FAIL, OPEN, PASS, criteria, criteria_section
from reports.render.verification.deviations import deviations_section, impact_section, signatures
from reports.render.verification.forms import forms_section, limits_section
from reports.render.verification.tested import method_section, purpose_section, tested_section
from reports.render.verification.traceability import traceability_section
from reports.summary.summary import Summary


def title(summary: Summary) -> str:
    """Of the document, in plain text."""
    task = summary.record.task.name or "a network"
    return f"Verification report: {summary.subject or 'no variant'} for {task}, run {summary.record.id}"


def render(summary: Summary) -> str:
    """The report in CommonMark with tables; what the run does not know is said not to be stated."""
    by_agreement = summary.claim.accuracy == AGREEMENT
    parts = (
        f"# {text(title(summary))}",
        f"**{text(summary.headline)}**",
        purpose_section("1. Purpose and scope", summary),
        tested_section("2. Software under test", summary),
        method_section("3. Method", summary),
        criteria_section("4. Acceptance criteria and results", summary),
        section("5. Conclusion", conclusion(summary)),
        deviations_section("6. Deviations", summary),
        impact_section("7. Impact of the modification", summary),
        traceability_section("8. Traceability", summary),
        limits_section("9. What this report is not", by_agreement),
        section("10. Signatures", signatures()),
        forms_section("Where each part belongs"),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def conclusion(summary: Summary) -> str:
    """The verdict's own sentence with where it holds, and never more than that."""
    results = Counter(own.result for own in criteria(summary))
    judged = [f"{results[name]} {word}" for name, word in ((PASS, "pass"), (FAIL, "fail"), (OPEN, "undecided"))]
    machine = summary.record.host.gpu or summary.record.host.processor
    demo = ", which are made-up volumes" if summary.record.data.demo else ""
    missing = "".join(f"; the required variant {name} was not measured" for name in summary.missing_required)
    return (
        f"On {text(machine)}, over {count(summary.cases, 'case')}{demo}: {text(summary.headline)}{text(missing)}. "
        f"Of the criteria {', '.join(judged)}."
    )
