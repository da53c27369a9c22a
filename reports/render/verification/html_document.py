"""The verification report as a page that prints well."""

from reports.render.page import from_markdown, page
from reports.render.verification import document
from reports.render.verification.criteria import FAIL, OPEN, PASS
from reports.summary.summary import Summary

_STYLE = """
body { max-width: 60rem; }
.table { margin: 1rem 0; }
td, td:last-child { min-width: 0; }
td:first-child { white-space: normal; }
td code { overflow-wrap: anywhere; background: none; padding: 0; }
h2:nth-last-of-type(2) + .table td { height: 3rem; }
h2:nth-last-of-type(2) + .table table { width: 100%; }
@media print {
  .table { overflow: visible; }
  table:not(:has(tr:nth-child(14))) { break-inside: avoid; }
  p:has(+ .table) { break-after: avoid; }
  tr:nth-last-child(-n+2) { break-before: avoid; }
}
@page { margin: 18mm 16mm; }
"""


_RESULTS = {
    f"<td>{PASS}</td>": f'<td class="kept">{PASS}</td>',
    f"<td><strong>{FAIL}</strong></td>": f'<td class="lost">{FAIL}</td>',
    f"<td><strong>{OPEN}</strong></td>": f'<td class="undecided">{OPEN}</td>',
}


def render(summary: Summary) -> str:
    """The report as HTML without scripts, images or links to other files."""
    body = from_markdown(document.render(summary))
    for cell, coloured in _RESULTS.items():
        body = body.replace(cell, coloured)
    return page(document.title(summary), body, style=_STYLE)
