"""Summaries to documents, a format a file: `markdown`, `html_page`, `summary_json`, `csv_tables`, `junit`.

`several` has the documents of `bench compare` and `bench history`; `sections` are the parts of the markdown page,
`commonmark` its marks; `page` is the frame of all HTML.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.summary.summary import Summary

__all__ = ["FORMATS", "render"]

_RENDERERS = {
    "markdown": "reports.render.markdown",
    "html": "reports.render.html_page",
    "json": "reports.render.summary_json",
    "csv": "reports.render.csv_tables",
    "junit": "reports.render.junit",
}
FORMATS = tuple(_RENDERERS)


def render(summary: "Summary", form: str) -> str:
    """The summary as one document in one of `FORMATS`, ending in a newline.

    Raises:
        ValueError: there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"no report format {form!r}; there are {', '.join(FORMATS)}")
    text = import_module(_RENDERERS[form]).render(summary)
    assert isinstance(text, str)
    return text
