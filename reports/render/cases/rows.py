"""The report's cases: those that the variant of the verdict, or else the fastest, changes most."""

from collections.abc import Sequence

from reports import formatting
from reports.analysis.cases import CaseChange
from reports.formatting import NOT_APPLICABLE, NOT_MEASURED, count
from reports.records.record import AGREEMENT
from reports.render.commonmark import fold, section, table, text
from reports.summary.summary import Summary

TITLE = "Cases, worst first"
FIGURES = 4  # columns at the end; those before hold words
_SHOWN = 5  # in the table; more are folded
_LISTED = 100  # in all; `bench report --format json` has every one


def cases_section(summary: Summary) -> str:
    """The worst cases in a table, the others folded."""
    changes = summary.worst_cases[:_LISTED]
    if not changes:
        return ""
    head = [text(name) for name in case_head(summary)]
    rows = [[text(cell) for cell in case_cells(summary, change)] for change in changes]
    rest = rows[_SHOWN:]
    left_out = len(summary.worst_cases) - len(changes)
    left = range(len(head) - FIGURES)
    folded = fold(count(len(rest), "further case"), table(head, rest, left)) if rest else ""
    more = f"{count(left_out, 'further case')} are in the JSON." if left_out else ""
    return section(TITLE, text(case_note(summary)), table(head, rows[:_SHOWN], left), folded, more)


def case_note(summary: Summary) -> str:
    """What the rows are of, and their order, as plain text."""
    against = "to the baseline's mask" if summary.record.settings.accuracy == AGREEMENT else "to the truth"
    right = "" if summary.record.settings.accuracy == AGREEMENT else " and did not become right"
    classes = f"by a class that is not the baseline's{right}, then " if summary.record.classifies else ""
    return (
        f"{summary.cases_of} beside {summary.record.baseline}. Sorted {classes}by the DSC {against} that fell most, in "
        "whichever structure, then by the voxels labelled otherwise than by the baseline."
    )


def case_head(summary: Summary) -> list[str]:
    """The columns of `case_cells`."""
    classes = ["class"] if summary.record.classifies else []
    return ["case", *classes, "structure", "DSC: baseline", "variant", "change", "voxels changed"]


def case_cells(summary: Summary, change: CaseChange) -> list[str]:
    """A case as plain text."""
    classes = [_class_words(summary.record.task.class_names, change)] if summary.record.classifies else []
    scores: Sequence[str] = (NOT_MEASURED,) * 3
    if change.structure:
        label = formatting.score if summary.record.settings.accuracy != AGREEMENT else formatting.agreement
        scores = (label(change.baseline_dsc), label(change.variant_dsc), formatting.change(change.dsc_change))
    changed = formatting.share(change.changed) if change.voxels else NOT_APPLICABLE
    if change.differing_voxels:
        changed += f" ({change.differing_voxels:,})"
    return [change.case, *classes, change.structure or NOT_MEASURED, *scores, changed]


def _class_words(names: Sequence[str], change: CaseChange) -> str:
    """``1 -> 2 (truth 1)`` where it flipped."""

    def name(of: int | None) -> str:
        return "none" if of is None else str(dict(enumerate(names)).get(of, of))

    if change.baseline_class is None:
        return f"{name(change.variant_class)}, by the baseline none"
    if not change.flipped:
        return f"{name(change.variant_class)}, as the baseline"
    truth = f" (truth {name(change.truth)})" if change.truth is not None else ""
    return f"{name(change.baseline_class)} → {name(change.variant_class)}{truth}"
