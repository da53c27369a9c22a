"""The few marks of CommonMark that the report needs."""

import re
from collections.abc import Collection, Iterable, Sequence

from reports.formatting import one_line

_SPECIAL = re.compile(  # also a link's bracket, an entity, and what would begin a heading, a quotation or a list
    r"[\\*<|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\[(?=.*\]\()|&(?=#?\w+;)|^(?:#+(?=\s)|>|[+-](?=\s))"
)
_CODE = re.compile(r"(`[^`]+`)")


def text(value: object) -> str:
    """Words from elsewhere on one line, safe outside and inside a table; what is in backticks stays code."""
    parts = _CODE.split(one_line(value))
    return "".join(part.replace("|", "\\|") if i % 2 else _escape(part) for i, part in enumerate(parts))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """A table, padded so that it reads well raw too. Columns `left` hold words, the others figures."""
    lines = [head, *rows]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    rule = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def words(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of words; the last column stays ragged, as reasons are long."""
    lines = [head, *rows]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head) - 1)]
    padded = [[*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[-1]] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], ["-" * w for w in (*widths, 3)], *padded[1:]])


def bullets(items: Iterable[str]) -> str:
    """A list, an item a line."""
    return "\n".join(f"- {item}" for item in items)


def fold(title: str, *parts: str) -> str:
    """What opens by a click, on GitHub and in the HTML page; `title` is ours, without marks."""
    return "\n\n".join([f"<details>\n<summary>{title}</summary>", *(part for part in parts if part), "</details>"])


def section(title: str, *parts: str) -> str:
    """A heading with what belongs under it; empty where nothing does."""
    return "\n\n".join([f"## {title}", *(part for part in parts if part)]) if any(parts) else ""


def _escape(part: str) -> str:
    return _SPECIAL.sub(lambda match: "\\" + match.group(), part.replace("`", "'"))
