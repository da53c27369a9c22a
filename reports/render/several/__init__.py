"""Documents on several runs: of `bench compare`, and of `bench history`, a module for each in each format.

`compare_markdown`, `compare_page` and `compare_json` hold runs against a reference; `history_markdown`, `history_page`
and `history_json` follow variants over many. They share `wording`, and the pages their `frame`.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.decision.history import History
    from reports.decision.regression import Regression

__all__ = ["FORMATS", "render_history", "render_regressions"]

_MODULES = {"markdown": "markdown", "html": "page", "json": "json"}
FORMATS = tuple(_MODULES)


def render_regressions(regressions: Sequence["Regression"], form: str) -> str:
    """The comparisons with one reference as one document in one of `FORMATS`, ending in a newline."""
    return _rendered("compare", regressions, form)


def render_history(history: "History", form: str) -> str:
    """The history as one document in one of `FORMATS`, ending in a newline."""
    return _rendered("history", history, form)


def _rendered(what: str, content: object, form: str) -> str:
    document = import_module(f"reports.render.several.{what}_{_MODULES[form]}").render(content)
    assert isinstance(document, str)
    return document
