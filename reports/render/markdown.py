"""The report that people read and hand in; the verdict is its first line."""

from reports.render.commonmark import bullets, text
from reports.render.sections import backends, provenance
from reports.summary import Summary


def render(summary: Summary) -> str:
    """The report in CommonMark with tables, readable raw and rendered."""
    sections = (_verdict(summary), *backends.sections(summary), *provenance.sections(summary))
    return "\n\n".join(section for section in sections if section) + "\n"


def _verdict(summary: Summary) -> str:
    missing = (
        f"required backend {name} was skipped or failed, so that the run does not pass whatever its verdict"
        for name in summary.missing_required
    )
    reasons = bullets([text(reason) for reason in (*summary.reasons, *missing)])
    doubts = bullets([f"Note: {text(doubt)}." for doubt in summary.doubts])
    return "\n".join(part for part in (f"# {text(summary.headline)}\n", reasons, doubts) if part)
