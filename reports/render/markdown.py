"""The report that people read and hand in; the verdict is its first line."""

from reports.render.commonmark import bullets, text
from reports.render.sections.accuracy import accuracy_section, detectable_section
from reports.render.sections.diagnostics import diagnostics_section
from reports.render.sections.interference import interference_section
from reports.render.sections.pareto import pareto_section
from reports.render.sections.peers import peers_section
from reports.render.sections.provenance import provenance_sections
from reports.render.sections.requirements import requirements_section
from reports.render.sections.resources import gpu_section, resources_section
from reports.render.sections.roi import roi_section
from reports.render.sections.roofline import roofline_section
from reports.render.sections.times import case_times_section, stages_section
from reports.render.sections.training_metrics import training_metrics_section
from reports.render.sections.variants import confirmation_section, failed_section, skipped_section, variants_section
from reports.summary.summary import Summary

SECTIONS = (  # the most important first
    requirements_section,
    variants_section,
    confirmation_section,
    pareto_section,
    peers_section,
    accuracy_section,
    detectable_section,
    roi_section,
    case_times_section,
    stages_section,
    diagnostics_section,
    resources_section,
    roofline_section,
    gpu_section,
    interference_section,
    training_metrics_section,
    skipped_section,
    failed_section,
    provenance_sections,
)


def render(summary: Summary) -> str:
    """The report in CommonMark with tables, readable raw and rendered; sections without content are left out."""
    parts = (_verdict_heading(summary), *(section(summary) for section in SECTIONS))
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict_heading(summary: Summary) -> str:
    missing = (
        f"required variant {name} was skipped or failed, so that the run does not pass whatever its verdict"
        for name in summary.missing_required
    )
    declared = (summary.declaration,) if summary.declaration else ()
    reasons = bullets([text(reason) for reason in (*summary.reasons, *declared, *missing)])
    warnings = bullets([f"Note: {text(warning)}." for warning in summary.warnings])
    return "\n".join(part for part in (f"# {text(summary.headline)}\n", reasons, warnings) if part)
