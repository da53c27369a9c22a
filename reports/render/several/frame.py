"""The frame of the pages on several runs: how their tables print, and the colour of the answer."""

from reports.render.page import page

_STYLE = """
td.kept, td.lost, td.undecided { white-space: nowrap; }
@media print {
  h1 { font-size: 1rem; } h2 { font-size: .9rem; margin-top: 1rem; } figcaption { font-size: 9px; }
  .table { overflow: visible; } th, td, td:last-child { min-width: 0; padding: .1rem .25rem; }
  td:first-child, td[style*="right"], td.kept, td.lost, td.undecided { white-space: normal; }
}
"""


def answered(title: str, state: str, body: str) -> str:
    """A page whose first heading has the colour of `state`, a class of `reports.render.page`."""
    return page(title, body.replace("<h1>", f'<h1 class="{state}">', 1), style=_STYLE)
