"""The report's interference: samples beside which the machine did something else."""

from reports import formatting
from reports.analysis.interference import CRITERIA
from reports.render.commonmark import section, words
from reports.summary.summary import Summary


def interference_section(summary: Summary) -> str:
    """What interfered with the samples, and the verdict without them; empty where it was not recorded."""
    interference = summary.interference
    if not interference.recorded:
        return ""
    rows = [
        [CRITERIA[name], f"{interference.reasons[name]} of {interference.samples}"]
        for name in CRITERIA
        if name in interference.reasons
    ]
    pairs = f"{interference.flagged_pairs} of {interference.pairs}"
    share = f"{formatting.percent(100 * interference.share)} of the pairs ({pairs})"
    if not interference.flagged:
        return section("Interference", f"None of {interference.samples} samples was affected.")
    repeated = f"Without them the verdict is {interference.verdict}, with them {summary.verdict}."
    if interference.verdict is None:
        repeated = "Without them no pair is left."
    note = f"A pair counts as affected where either of its samples is: {share}. All are kept. {repeated}"
    return section("Interference", words(["what happened", "samples"], rows), note)
