"""The markdown report as one self-contained page."""

from reports.render import markdown
from reports.render.page import STATES, from_markdown, page
from reports.summary.summary import Summary


def render(summary: Summary) -> str:
    """The report as HTML without scripts, images or links to other files."""
    body = from_markdown(markdown.render(summary))
    return page(summary.headline, body.replace("<h1>", f'<h1 class="{STATES[summary.verdict]}">', 1))
