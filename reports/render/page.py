"""The frame of all pages: one file with nothing from elsewhere, light or dark as the reader has it, and in print."""

import re
from html import escape

from markdown_it import MarkdownIt

from reports.charts.figure import Chart, theme
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED

STATES = {CONFIRMED: "kept", REFUTED: "lost", INCONCLUSIVE: "undecided"}
"""The class, and the colour's variable, of each verdict."""

_FOLD = re.compile(r"^(<details>\n<summary>.*</summary>|</details>)$", re.MULTILINE)  # of `commonmark.fold`

_STYLE = """
:root { color-scheme: light dark; --shade: #f6f8fa; }
@media screen and (prefers-color-scheme: dark) { :root { --shade: #161b22; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 82rem;
       margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.3; border-left: .4rem solid var(--grid); padding-left: .8rem; }
h1.kept { border-color: var(--kept); } h1.lost { border-color: var(--lost); }
h1.undecided { border-color: var(--undecided); }
h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid var(--grid); }
td.kept { color: var(--kept); font-weight: 600; } td.lost { color: var(--lost); font-weight: 600; }
td.undecided { color: var(--undecided); font-weight: 600; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--grid); padding: .3rem .6rem; vertical-align: top; min-width: 4.5rem; }
th { background: var(--shade); text-align: left; }
td:first-child, td[style*="right"] { white-space: nowrap; }
td:last-child { min-width: 11rem; }
code { font-size: .875em; background: var(--shade); padding: .1em .3em; }
pre { background: var(--shade); padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre code { padding: 0; }
details { margin: 1rem 0; }
summary { cursor: pointer; }
figure { margin: 1rem 0; max-width: 56rem; }
figcaption { color: var(--muted); font-size: .875rem; }
@media print {
  body { max-width: none; margin: 0; font-size: 11px; } table { font-size: 9px; }
  tr, figure, h2 { break-inside: avoid; } h2 { break-after: avoid; }
}
"""


def page(title: str, body: str, *, style: str = "", end: str = "") -> str:
    """A whole document in HTML around `body`.

    Args:
        title: plain text, of the window.
        body: HTML.
        style: rules beside those of every page.
        end: HTML behind the body, such as scripts.
    """
    head = f"<style>{theme(':root')}{_STYLE}{style}</style>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n{head}\n</head>\n<body>\n{body}{end}</body>\n</html>\n"
    )


def from_markdown(text: str) -> str:
    """Our own markdown as HTML: wide tables scroll in their own box, verdicts have their colour."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = _FOLD.split(text)  # text of others never begins a line with a tag
    body = "".join(f"{part}\n" if i % 2 else reader.render(part) for i, part in enumerate(parts))
    body = body.replace("<table>", '<div class="table">\n<table>').replace("</table>", "</table>\n</div>")
    for verdict, state in STATES.items():
        body = body.replace(f"<td>{verdict}</td>", f'<td class="{state}">{verdict}</td>')
    return body


def figure(chart: Chart) -> str:
    """A chart in its place, with its content in words below."""
    return f'<figure id="{chart.name}">\n{chart.svg}\n<figcaption>{escape(chart.text)}</figcaption>\n</figure>\n'
