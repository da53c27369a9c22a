"""Summaries to documents, a format a file: `markdown`, `html_page`, `summary_json`, `csv_tables`, `junit`.

`verification` is the report that is filed, `exchange` what other programs take. `several` has the documents of `bench
compare` and `bench history`, `tuning` that of ``bench tune``; `sections` are the parts of the markdown page,
`commonmark` its marks; `page` is the frame of all HTML, and `cases` the rows of cases with their images, which
`assets/` shows.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from reports.render.cases.images import CaseImages
    from reports.summary.summary import Summary

__all__ = ["FOLDERS", "FORMATS", "markdown_files", "render", "render_folder"]

_RENDERERS = {
    "markdown": "reports.render.markdown",
    "html": "reports.render.html_page",
    "json": "reports.render.summary_json",
    "csv": "reports.render.csv_tables",
    "junit": "reports.render.junit",
    "verification": "reports.render.verification.document",
    "verification-html": "reports.render.verification.html_document",
    "model-card": "reports.render.exchange.model_card",
}
_FOLDER_RENDERERS = {"parquet": "reports.render.exchange.parquet_tables"}
FORMATS = tuple(_RENDERERS)
"""Documents, each a text."""
FOLDERS = tuple(_FOLDER_RENDERERS)
"""Formats that are several files, some of them no text."""


def render(summary: "Summary", form: str, images: "CaseImages | None" = None) -> str:
    """The summary as one document in one of `FORMATS`, ending in a newline; of these HTML alone shows `images`.

    Raises:
        ValueError: there is no such format.
    """
    renderer = _renderer(_RENDERERS, form)
    text = renderer.render(summary, images) if form == "html" else renderer.render(summary)
    assert isinstance(text, str)
    return text


def render_folder(summary: "Summary", form: str) -> Mapping[str, bytes]:
    """The summary and its run as files in one of `FOLDERS`: what each holds, by its name.

    Raises:
        ValueError: there is no such format.
        ImportError: the package that writes them is not installed.
    """
    files: Mapping[str, bytes] = _renderer(_FOLDER_RENDERERS, form).render(summary)
    return files


def markdown_files(summary: "Summary", stem: str = "report") -> dict[str, str]:
    """The Markdown report as files by name, ``STEM.md`` and, where it has a picture to show, ``STEM.svg``.

    `render` gives the same report without the picture, for where no second file can lie beside it.
    """
    from reports.render.markdown import with_picture  # which imports matplotlib

    name = f"{stem}.svg"
    text, picture = with_picture(summary, quote(name.encode("utf-8", "surrogateescape")))
    return {f"{stem}.md": text} | ({name: picture.file} if picture else {})


def _renderer(known: Mapping[str, str], form: str) -> Any:
    if form not in known:
        raise ValueError(f"no report format {form!r}; there are {', '.join(known)}")
    return import_module(known[form])
