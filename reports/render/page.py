"""The frame of all pages: one file with nothing from elsewhere, light or dark as the reader has it, and in print."""

import re
from collections import Counter
from html import escape, unescape

from markdown_it import MarkdownIt

from reports.charts.figure import Chart, theme
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED

STATES = {CONFIRMED: "kept", REFUTED: "lost", INCONCLUSIVE: "undecided"}
"""The class, and the colour's variable, of each verdict."""

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What a page may do: show and run what is in it, and connect to nothing."""

_FOLD = re.compile(r"^(<details>\n<summary>.*</summary>|</details>)$", re.MULTILINE)  # of `commonmark.fold`

_HEADING = re.compile(r"<(/?)h([1-5])>")
_TITLED = re.compile(r"<(?:h[1-6]|summary)>(.*?)</(?:h[1-6]|summary)>|<table>")

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
.table > svg { display: block; }
@media screen { .table > svg { min-width: 36rem; } } /* its letters are then 9 px high */
:focus-visible { outline: 2px solid var(--winner); outline-offset: 2px; }
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
@page { margin: 12mm; }
@media print {
  figcaption { font-size: 9px; }
  body { max-width: none; margin: 0; font-size: 11px; } table { font-size: 9px; }
  tr, figure, h2, h3, summary { break-inside: avoid; } h2, h3, summary { break-after: avoid; }
  thead { display: table-header-group; }
  .table { overflow: visible; } th, td { min-width: 0; padding: .15rem .3rem; overflow-wrap: break-word; }
  td:first-child, td:last-child, td[style*="right"] { white-space: normal; min-width: 0; }
  details::details-content { content-visibility: visible; block-size: auto; } /* a closed fold prints open */
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
    head = f"<style>{theme()}{_STYLE}{style}</style>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n{head}\n</head>\n<body>\n{body}{end}</body>\n</html>\n"
    )


def from_markdown(text: str, *, below: int = 0) -> str:
    """Our own markdown as HTML: wide tables scroll in their own box, verdicts have their colour.

    `below`: levels by which its headings are lowered.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = _FOLD.split(text)  # text of others never begins a line with a tag
    body = "".join(f"{part}\n" if i % 2 else reader.render(part) for i, part in enumerate(parts))
    body = _HEADING.sub(lambda m: f"<{m[1]}h{int(m[2]) + below}>", body)
    body = _scrollable(body)
    for verdict, state in STATES.items():
        body = body.replace(f"<td>{verdict}</td>", f'<td class="{state}">{verdict}</td>')
    return body


def inline(text: str) -> str:
    """A line of our own markdown as HTML."""
    html: str = MarkdownIt("commonmark", {"html": False}).renderInline(text)
    return html


def table_box(label: str) -> str:
    """The beginning of a box that scrolls, which the keyboard reaches and a screen reader names; `label`: plain."""
    return f'<div class="table" role="region" tabindex="0" aria-label="{escape(label)}">'


def _scrollable(body: str) -> str:
    """With each table in a box of its own."""
    title, seen = "", Counter[str]()

    def boxed(match: re.Match[str]) -> str:
        nonlocal title
        if match[1] is not None:
            title = re.sub(r"<[^>]+>", "", match[1])
            return match[0]
        seen[title] += 1
        number = f", table {seen[title]}" if seen[title] > 1 else ""
        return f"{table_box(unescape(title or 'Table') + number)}\n<table>"

    return _TITLED.sub(boxed, body).replace("</table>", "</table>\n</div>")


def figure(chart: Chart) -> str:
    """A chart in its place, with its content in words below."""
    box = table_box(f"Chart: {chart.title}")  # which scrolls where it is narrow
    return (
        f'<figure id="{chart.name}">\n{box}\n{chart.svg}\n</div>\n'
        f"<figcaption>{escape(chart.text)}</figcaption>\n</figure>\n"
    )
