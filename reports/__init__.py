"""Records of a run, what follows from them, and the documents people read.

`records` holds raw values and their files; `stats`, `decision` and `analysis` derive what they say, `summary` brings it
into rows once, and `render` turns those rows into one format each.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.summary import Summary

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
