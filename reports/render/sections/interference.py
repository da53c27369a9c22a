"""The report's disturbed samples."""

from reports import formatting
from reports.analysis.interference import CRITERIA
from reports.render.commonmark import section, words
from reports.summary.summary import Summary


def interference_section(summary: Summary) -> str:
    """What disturbed the samples, and the verdict without them; empty where it was not recorded."""
    found = summary.interference
    if not found.told:
        return ""
    rows = [[CRITERIA[name], f"{found.reasons[name]} of {found.samples}"] for name in CRITERIA if name in found.reasons]
    share = f"{formatting.percent(100 * found.share)} of the pairs ({found.flagged_pairs} of {found.pairs})"
    if not found.flagged:
        return section("Disturbed samples", f"None of {found.samples} samples was disturbed.")
    repeated = f"Without them the verdict is {found.verdict}, with them {summary.verdict}."
    note = f"A pair counts as disturbed where either of its samples is: {share}. All are kept. {repeated}"
    return section("Disturbed samples", words(["what happened", "samples"], rows), note)
