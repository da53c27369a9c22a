"""The report that people read and hand in: the answer on one screen, then the sections, folded by topic."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from reports import formatting
from reports.charts.figure import Chart
from reports.charts.ranking import ranking_chart
from reports.decision.verdict import judge_accuracy
from reports.formatting import NOT_MEASURED, SHOWN, count
from reports.records.record import TRUTH
from reports.render.cases.rows import cases_section
from reports.render.commonmark import bullets, fold, section, table, text
from reports.render.sections.accuracy import accuracy_section, detectable_section
from reports.render.sections.diagnostics import diagnostics_section
from reports.render.sections.interference import interference_section
from reports.render.sections.pareto import pareto_section
from reports.render.sections.peers import peers_section
from reports.render.sections.provenance import provenance_sections
from reports.render.sections.requirements import requirements_section
from reports.render.sections.resources import gpu_section, resources_section, roofline_section
from reports.render.sections.roi import roi_section
from reports.render.sections.shards import shards_section
from reports.render.sections.times import case_times_section, stages_section
from reports.render.sections.training_metrics import training_metrics_section
from reports.render.sections.variants import confirmation_section, failed_section, skipped_section, variants_section
from reports.summary.answer import Answer, Figure, answer
from reports.summary.summary import Row, Summary

NOTES = 4  # that a reader sees at once; all are in the first fold


@dataclass(frozen=True)
class Topic:
    """Sections that belong together. `name`: of its place in a page."""

    name: str
    title: str
    sections: tuple[Callable[[Summary], str], ...]

    def markdown(self, summary: Summary, without: Collection[Callable[[Summary], str]] = ()) -> str:
        """All that it holds but for sections `without` which it is asked for; empty where nothing is left."""
        return "\n\n".join(part for own in self.sections if own not in without and (part := own(summary)))


def reasons_section(summary: Summary) -> str:
    """What the verdict rests on, and every note."""
    reasons = bullets([text(reason) for reason in summary.reasons])
    warnings = bullets([f"Note: {text(warning)}." for warning in summary.warnings])
    return section("Reasons", "\n".join(part for part in (reasons, warnings) if part))


TOPICS = (  # the most important first
    Topic("verdict", "Reasons and requirements", (reasons_section, requirements_section)),
    Topic(
        "variants",
        "Variants and peers",
        (variants_section, confirmation_section, shards_section, pareto_section, peers_section),
    ),
    Topic(
        "scores",
        "Accuracy or agreement",
        (accuracy_section, detectable_section, cases_section, roi_section, training_metrics_section),
    ),
    Topic("times", "Times",
          (case_times_section, stages_section, diagnostics_section, interference_section)),
    Topic("resources", "Resources", (resources_section, roofline_section, gpu_section)),
    Topic("not-run", "What did not run", (skipped_section, failed_section)),
    Topic("measured", "How it was measured", (provenance_sections,)),
)  # fmt: skip


def render(summary: Summary, picture: str | None = None) -> str:
    """The report in CommonMark with tables, readable raw and rendered; sections without content are left out.

    `picture` is where the ranking lies as a picture, relative to the document; None for a document that stands alone.
    """
    said = answer(summary)
    head = (
        f"# {text(summary.headline)}",
        f"Claim: {text(said.claim)}.",
        figures_table(said),
        facts_list(summary, said),
        f"![Forest plot: what each variant saves of the time of a case]({picture})" if picture else "",
        _short_table(summary),
        _notes_list(summary),
    )
    folds = (fold(topic.title, part) for topic in TOPICS if (part := topic.markdown(summary)))
    return "\n\n".join(part for part in (*head, *folds) if part) + "\n"


def with_picture(summary: Summary, name: str) -> tuple[str, Chart | None]:
    """The report for a file, and the chart that it shows as a picture called `name` beside it; None without one."""
    chart = ranking_chart(summary)
    return render(summary, name if chart else None), chart


def figures_table(said: Answer) -> str:
    def cell(figure: Figure) -> str:
        return f"**{text(figure.value)}**: {text(figure.detail)}"

    return table([text(each.label) for each in said.figures], [[cell(each) for each in said.figures]], (0, 1, 2))


def facts_list(summary: Summary, said: Answer) -> str:
    facts = (
        f"Worst case: {text(said.worst_case)}.",
        f"Measured on {text(said.cases)}; machine: {text(said.machine)}.",
        *(text(each) for each in (summary.declaration,) if each),
        *map(text, missing(summary)),
    )
    return bullets(facts)


def missing(summary: Summary) -> Iterator[str]:
    """What does not let the run pass whatever its verdict."""
    for name in summary.missing_required:
        yield f"required variant {name} was not measured, so that the run does not pass whatever its verdict"


def _short_table(summary: Summary) -> str:
    """The baseline and the fastest variants."""
    rows = [row for row in summary.measured if not row.is_peer or row.is_baseline]
    if not rows:
        return ""
    shown = rows[: SHOWN + 1]
    rest = len(rows) - len(shown)
    more = f"{count(rest, 'more variant')} below." if rest else ""
    head = [
        "variant",
        "verdict",
        "case time reduction",
        "case median",
        "accuracy" if summary.claim.accuracy == TRUTH else "agreement",
    ]
    return "\n\n".join(
        part for part in (table(head, [_short_row(row, summary) for row in shown], (0, 1, 4)), more) if part
    )


def _short_row(row: Row, summary: Summary) -> list[str]:
    r = row.case.reduction
    if row.is_baseline:
        return [text(row.name), "baseline", "reference", row.case_median, "reference"]
    state = judge_accuracy(row.accuracy, summary.claim)[0] if row.accuracy.cases else NOT_MEASURED
    return [
        text(row.name), row.verdict or NOT_MEASURED, formatting.bounded(r.estimate, r.low, r.high),
        row.case_median, state,
    ]  # fmt: skip


def _notes_list(summary: Summary) -> str:
    notes = [f"Note: {text(warning)}." for warning in summary.warnings[:NOTES]]
    rest = len(summary.warnings) - len(notes)
    return bullets([*notes, *([f"{count(rest, 'more note')} below."] if rest else [])])
