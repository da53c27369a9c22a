"""The markdown report as one self-contained page."""

import re
from html import escape

from markdown_it import MarkdownIt

from reports.render import markdown
from reports.summary.summary import Summary

_COLOURS = {"CONFIRMED": "#1a7f37", "REFUTED": "#b42318", "INCONCLUSIVE": "#9a6700"}

_FOLD = re.compile(r"^(<details>\n<summary>.*</summary>|</details>)$", re.MULTILINE)  # of `commonmark.fold`

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; max-width: 82rem; margin: 2rem auto;
       padding: 0 1rem; overflow-wrap: break-word; }}
h1 {{ font-size: 1.5rem; line-height: 1.3; border-left: .4rem solid {colour}; padding-left: .8rem; }}
h2 {{ font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #d1d9e0; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }}
th, td {{ border: 1px solid #d1d9e0; padding: .3rem .6rem; vertical-align: top; min-width: 4.5rem; }}
th {{ background: #f6f8fa; text-align: left; }}
td:first-child, td[style*="right"] {{ white-space: nowrap; }}
td:last-child {{ min-width: 11rem; }}
code {{ font-size: .875em; background: #f6f8fa; padding: .1em .3em; }}
pre {{ background: #f6f8fa; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }}
pre code {{ padding: 0; }}
details {{ margin: 1rem 0; }}
summary {{ cursor: pointer; }}
@media print {{ body {{ max-width: none; margin: 0; font-size: 11px; }} table {{ font-size: 9px; }} }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def render(summary: Summary) -> str:
    """The report as HTML without scripts, images or links to other files; wide tables scroll in their own box."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = _FOLD.split(markdown.render(summary))  # text of others never begins a line with a tag
    body = "".join(f"{part}\n" if i % 2 else reader.render(part) for i, part in enumerate(parts))
    body = body.replace("<table>", '<div class="table">\n<table>').replace("</table>", "</table>\n</div>")
    for verdict, colour in _COLOURS.items():
        body = body.replace(f"<td>{verdict}</td>", f'<td style="color:{colour};font-weight:600">{verdict}</td>')
    return _PAGE.format(title=escape(summary.headline), colour=_COLOURS[summary.verdict], body=body)
