"""Records of a run, what follows from them, and the documents people read.

`record` holds raw values, `document` their files; `statistics`, `comparison` and `verdict` derive what they say,
`summary` brings it into rows once, and each renderer turns those rows into one format.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.summary import Summary

__all__ = ["FORMATS", "render"]

FORMATS = ("markdown", "html", "json", "csv", "junit")  # each the name of the file here that renders it


def render(summary: "Summary", form: str) -> str:
    """The summary as one document in one of `FORMATS`, ending in a newline.

    Raises:
        ValueError: there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"no report format {form!r}; there are {', '.join(FORMATS)}")
    text = import_module(f"reports.{form}").render(summary)
    assert isinstance(text, str)
    return text
