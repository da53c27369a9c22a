"""The report as one self-contained page: the answer on the first screen, then charts, cases, all tables folded."""

from html import escape

from reports.charts.accuracy import accuracy_chart
from reports.charts.case_times import case_times_chart
from reports.charts.course import course_chart
from reports.charts.figure import Chart
from reports.charts.ranking import ranking_chart
from reports.charts.stability import stability_chart
from reports.charts.stages import stages_chart
from reports.charts.trade_off import trade_off_chart
from reports.formatting import count
from reports.render.cases import rows
from reports.render.cases.images import CaseImages
from reports.render.cases.page_section import cases_section
from reports.render.commonmark import text
from reports.render.markdown import TOPICS, missing
from reports.render.page import STATES, figure, from_markdown, inline, page
from reports.summary.answer import Answer, Figure, answer
from reports.summary.summary import Summary

CHARTS = (
    ranking_chart, accuracy_chart, case_times_chart, trade_off_chart, stages_chart, stability_chart, course_chart,
)  # fmt: skip
NOTES = 3  # that stand open; the others are folded below them

_STYLE = """
html { scroll-padding-top: 1rem; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .3rem; }
a { color: var(--winner); }
header h1 { margin: 0 0 .8rem; } .claim { margin: 0 0 1rem; color: var(--muted); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; margin: 0 0 1rem; }
.figures div { border: 1px solid var(--grid); border-top: .3rem solid var(--grid); border-radius: .4rem;
               padding: .8rem 1rem; }
.figures .kept { border-top-color: var(--kept); } .figures .lost { border-top-color: var(--lost); }
.figures .undecided { border-top-color: var(--undecided); }
.figures dt { color: var(--muted); } .figures dd { margin: 0; }
.figures .value { font-size: 2.4rem; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 0 1rem; }
.facts dt { color: var(--muted); } .facts dd { margin: 0; }
.notes { margin: 0 0 1rem; padding-left: 1.2rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; margin: 0; padding: .6rem 0;
         border-block: 1px solid var(--grid); }
.charts figure { display: grid; grid-template-columns: minmax(0, 8fr) minmax(0, 5fr); gap: 0 2rem; max-width: none;
                 margin: .4rem 0 1.6rem; }
.charts h3 { font-size: 1rem; margin: 1.2rem 0 0; }
@media screen and (max-width: 60rem) { .charts figure { grid-template-columns: minmax(0, 1fr); } }
details.topic { border-top: 1px solid var(--grid); margin: 0; padding: .4rem 0; }
details.topic > summary > h2 { display: inline; border: 0; margin: 0; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
@media print {
  nav, .skip { display: none; }
  .figures { grid-template-columns: repeat(3, 1fr); } .figures .value { font-size: 1.6rem; }
}
"""


def render(summary: Summary, images: CaseImages | None = None) -> str:
    """The report as HTML that needs no network and no other file; scripts are in it only where there are `images`."""
    charts = [chart for draw in CHARTS if (chart := draw(summary))]
    topics = [
        (each.name, each.title, part) for each in TOPICS if (part := each.markdown(summary, (rows.cases_section,)))
    ]
    places = [("charts", "Charts")] if charts else []
    places += [("cases", "Cases")] if summary.worst_cases else []
    before = (
        '<a class="skip" href="#content">To the content</a>\n'
        f"{_first_screen(summary, answer(summary))}"
        f"{_contents([*places, *((name, title) for name, title, _ in topics)])}"
        f'<main id="content">\n{_charts(charts)}'
    )
    after = f"{''.join(_fold(*topic) for topic in topics)}</main>\n"
    alone = page(summary.headline, before + after, style=_STYLE)
    section = cases_section(summary, images, len(alone.encode(errors="backslashreplace")))
    return page(summary.headline, before + section.html + after, style=_STYLE, end=section.end)


def _first_screen(summary: Summary, said: Answer) -> str:
    figures = "".join(map(_figure, said.figures))
    facts = [("Worst case", said.worst_case), ("Measured on", said.cases), ("Machine", said.machine)]
    facts += [("Declared", each) for each in (summary.declaration,) if each]
    facts += [("Required", each) for each in missing(summary)]
    items = "".join(f"<dt>{label}</dt><dd>{_text(value)}</dd>\n" for label, value in facts)
    return (
        f'<header>\n<h1 class="{STATES[summary.verdict]}">{_text(summary.headline)}</h1>\n'
        f'<p class="claim">Claim: {_text(said.claim)}.</p>\n<dl class="figures">\n{figures}</dl>\n'
        f'<dl class="facts">\n{items}</dl>\n{_notes(summary.warnings)}</header>\n'
    )


def _figure(each: Figure) -> str:
    return (
        f'<div class="{each.state}"><dt>{_text(each.label)}</dt>'
        f'<dd class="value">{_text(each.value)}</dd><dd>{_text(each.detail)}</dd></div>\n'
    )


def _notes(warnings: tuple[str, ...]) -> str:
    def listed(notes: tuple[str, ...]) -> str:
        return '<ul class="notes">\n' + "".join(f"<li>Note: {_text(note)}.</li>\n" for note in notes) + "</ul>\n"

    more = warnings[NOTES:]
    shown = listed(warnings[:NOTES]) if warnings else ""
    if not more:
        return shown
    return f"{shown}<details><summary>{count(len(more), 'more note')}</summary>\n{listed(more)}</details>\n"


def _contents(places: list[tuple[str, str]]) -> str:
    items = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>\n' for name, title in places)
    return f'<nav aria-label="Contents">\n<ul>\n{items}</ul>\n</nav>\n'


def _charts(charts: list[Chart]) -> str:
    if not charts:
        return ""
    shown = "".join(f"<section>\n<h3>{_text(chart.title)}</h3>\n{figure(chart)}</section>\n" for chart in charts)
    head = '<section id="charts" class="charts" aria-labelledby="of-charts">\n<h2 id="of-charts">Charts</h2>\n'
    return f"{head}{shown}</section>\n"


def _fold(name: str, title: str, markdown: str) -> str:
    """What opens by a click, and by a link to what it holds."""
    body = from_markdown(markdown, below=1)
    return (
        f'<details class="topic">\n<summary><h2>{escape(title)}</h2></summary>\n<div id="{name}">\n{body}</div>\n'
        "</details>\n"
    )


def _text(value: str) -> str:
    """Words from elsewhere as text on one line; what is in backticks is code."""
    return inline(text(value))
