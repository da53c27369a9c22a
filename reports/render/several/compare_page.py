"""Runs against a reference as one self-contained page."""

from collections.abc import Sequence

from reports.charts.regression import forest
from reports.decision.regression import NO_REGRESSION, REGRESSION, Regression, worst
from reports.decision.verdict import UNDECIDED
from reports.render.page import figure, from_markdown
from reports.render.several import compare_markdown as markdown
from reports.render.several.frame import answered
from reports.render.several.wording import short_names

STATES = {REGRESSION: "lost", UNDECIDED: "undecided", NO_REGRESSION: "kept"}
"""The class, and the colour's variable, of each state."""


def render(regressions: Sequence[Regression]) -> str:
    """The answer, the speedups as a plot, what differs, and each run as in the markdown."""
    names = short_names([regressions[0].reference, *(regression.run for regression in regressions)])
    chart = forest(regressions, names)
    details = [
        markdown.speedups_section(regressions),
        markdown.differences_section(regressions),
        *(markdown.run_section(regression, differences=False) for regression in regressions),
        markdown.note(regressions),
    ]
    body = from_markdown(markdown.answer(regressions)) + (figure(chart) if chart else "")
    body += from_markdown("\n\n".join(part for part in details if part))
    for state, css in STATES.items():
        body = body.replace(f"<td>{state}</td>", f'<td class="{css}">{state}</td>')
    state = worst(regression.state for regression in regressions)
    return answered(markdown.headline(regressions), STATES[state], body)
