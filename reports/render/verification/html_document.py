"""The verification report as a page that prints well."""

from reports.render.page import from_markdown, page
from reports.render.verification import document
from reports.summary.summary import Summary

_STYLE = """
body { max-width: 60rem; }
td:first-child { white-space: normal; }
td code { overflow-wrap: anywhere; background: none; padding: 0; }
h2:nth-last-of-type(2) + .table td { height: 3rem; }
h2:nth-last-of-type(2) + .table table { width: 100%; }
@media print { .table { overflow: visible; } pre, .table:has(+ h2) { break-inside: avoid; } }
@page { margin: 18mm 16mm; }
"""


def render(summary: Summary) -> str:
    """The report as HTML without scripts, images or links to other files."""
    return page(document.title(summary), from_markdown(document.render(summary)), style=_STYLE)
