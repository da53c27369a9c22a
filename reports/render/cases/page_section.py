"""The cases of the page: a row each, and behind it images that are looked at in the page itself."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from reports.analysis.cases import CaseChange
from reports.formatting import count
from reports.render.cases.images import BASELINE, TRUTH, VARIANT, CaseImages, MissingCase, PackedCase
from reports.render.cases.rows import FIGURES, TITLE, case_cells, case_head, case_note
from reports.render.page import table_box
from reports.summary.summary import Summary

_FIRST = 10  # rows that are seen at once; more are folded
_RESERVE = 4096  # bytes for sentences about the images, whose length is known last
_CELL = 40  # bytes of a row that says that its images are left out
_BUTTON = 200  # bytes, at most, but for the name of the case
_PRIVACY = (
    "This page holds voxels of these cases, cut out around the labels, and the names of their files without ending. It "
    "holds no path, date or header of these files; the command that made the run stands in it as it was typed. To send "
    "it without the images, make it with <code>bench report --format html --no-images</code>."
)


@dataclass(frozen=True, kw_only=True)
class CasesSection:
    """The cases in the page: `html` in its place, `end` behind the body; both empty where there are no scores."""

    html: str = ""
    end: str = ""


def cases_section(summary: Summary, images: CaseImages | None, page_bytes: int) -> CasesSection:
    """The rows of the cases, worst first, with their images while there is room.

    Args:
        images: None to leave them out.
        page_bytes: size of the page without this section.
    """
    if not summary.worst_cases:
        return CasesSection()
    shown = _Shown()
    if images is not None:
        cases = len(summary.worst_cases)
        frame = _bytes(_html(summary, shown) + _end(summary, images, shown)) + _RESERVE + _CELL * cases
        shown = _fitting(images, cases, images.max_bytes - page_bytes - frame)
    end = _end(summary, images, shown) if images is not None and shown.packs else ""
    return CasesSection(html=_html(summary, shown), end=end)


@dataclass(frozen=True)
class _Shown:
    """The cases with images, why others have none, and a sentence about all of them."""

    packs: Sequence[PackedCase] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    words: str = ""

    @property
    def in_rows(self) -> bool:
        """Whether the rows say something of images; one reason for all cases stands above them."""
        return bool(self.packs) or len(set(self.missing.values())) > 1


def _fitting(images: CaseImages, cases: int, room: int) -> _Shown:
    """What `room` bytes have a place for: the worst cases with their first channel, then their other channels."""
    whole: list[PackedCase] = []
    packs: list[PackedCase] = []
    missing: dict[str, str] = {}
    full = False
    for pack in images.packs:
        if isinstance(pack, MissingCase):
            missing[pack.case] = pack.reason
            room -= _bytes(pack.reason)
            continue
        first = replace(pack, channels=dict([next(iter(pack.channels.items()))]))
        room -= _bytes(_block(first)) + _BUTTON + _bytes(pack.case)
        if room < 0:
            full = True
            break
        whole.append(pack)
        packs.append(first)
    for i, pack in enumerate(whole):
        further = _bytes(_block(pack)) - _bytes(_block(packs[i]))
        if further <= room:
            room -= further
            packs[i] = pack
    return _Shown(packs, missing, _shown_words(len(packs), cases, missing, images.max_bytes if full else None))


def _shown_words(shown: int, cases: int, missing: Mapping[str, str], full_bytes: int | None) -> str:
    of_all = f"{shown} of {count(cases, 'case')}"
    if full_bytes is not None:
        return (
            f"Images of {of_all}, the worst: more do not fit into the page's {full_bytes / 2**20:g} MiB (--max-size)."
        )
    if not missing:
        return f"Images of {of_all}."
    reasons = set(missing.values())
    if not shown and len(reasons) == 1:
        return f"No images of any case: {reasons.pop()}."
    return f"Images of {of_all}; the rows of the others say why they have none."


def _html(summary: Summary, shown: _Shown) -> str:
    """The heading, a note, and the rows, of which the first are seen at once."""
    rows = [_row(summary, change, shown) for change in summary.worst_cases]
    names = case_head(summary)
    head = "".join(f'<th scope="col"{_side(i, names)}>{escape(name)}</th>' for i, name in enumerate(names))
    head += '<th scope="col" class="images">images</th>' if shown.in_rows else ""
    first, rest = rows[:_FIRST], rows[_FIRST:]
    parts = [
        '<section id="cases">',
        f"<h2>{TITLE}</h2>",
        f"<p>{escape(case_note(summary))}</p>",
        f"<p>{escape(shown.words)}</p>" if shown.words else "",
        '<p class="without-script">The images need JavaScript; the rows do not.</p>' if shown.packs else "",
        _table(head, first, TITLE),
        f"<details>\n<summary>{count(len(rest), 'further case')}</summary>" if rest else "",
        _table(head, rest, f"{TITLE}: {count(len(rest), 'further case')}") if rest else "",
        "</details>" if rest else "",
        f'<p class="fine">{_PRIVACY}</p>' if shown.packs else "",
        "</section>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _table(head: str, rows: Sequence[str], label: str) -> str:
    body = "\n".join(rows)
    return f"{table_box(label)}\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"


def _row(summary: Summary, change: CaseChange, shown: _Shown) -> str:
    name, *cells = case_cells(summary, change)
    lost = ' class="lost"' if change.class_lost else ""
    columns = [f'<th scope="row">{escape(name)}</th>', f"<td{lost}>{escape(cells[0])}</td>"]
    columns += [f"<td{_side(i, [name, *cells])}>{escape(cell)}</td>" for i, cell in enumerate(cells[1:], 2)]
    if not shown.in_rows:
        return f"<tr>{''.join(columns)}</tr>"
    number = next((i for i, pack in enumerate(shown.packs) if pack.case == change.case), None)
    if number is not None:
        label = escape(f"Show the images of {change.case}", quote=True)
        images = (
            f'<button type="button" class="show-case" data-case="{number}" aria-expanded="false" '
            f'aria-label="{label}" hidden>Show</button>'
        )
    else:
        images = escape(shown.missing.get(change.case, "left out"))
    return f'<tr>{"".join(columns)}<td class="images">{images}</td></tr>'


def _side(column: int, cells: Sequence[str]) -> str:
    """Figures stand at the right."""
    return ' style="text-align:right"' if len(cells) - FIGURES <= column < len(cells) else ""


def _end(summary: Summary, images: CaseImages, shown: _Shown) -> str:
    """The viewer, its program, and the data, none of which runs or is unpacked before a case is asked for."""
    settings = {
        "labels": {str(value): name for value, name in images.labels.items()},
        "names": {TRUTH: "truth", BASELINE: summary.record.baseline, VARIANT: summary.cases_of},
    }
    return "".join(
        (
            f"<style>{_asset('viewer.css')}</style>\n",
            _inert("case-settings", "application/json", _json(settings)),
            *(_block(pack, i) for i, pack in enumerate(shown.packs)),
            _inert("viewer-program", "text/plain", _program()),
            f"<script>\n{_asset('viewer.js')}</script>\n",
        )
    )


def _block(pack: PackedCase, number: int = 0) -> str:
    """The data of a case."""
    files = {name: base64.b64encode(content).decode() for name, content in pack.masks.items()}
    channels = [{"name": name, "nifti": base64.b64encode(content).decode()} for name, content in pack.channels.items()]
    content = {
        "case": pack.case, "channels": channels, "masks": files, "focus_mm": pack.focus_mm, "note": pack.note,
    }  # fmt: skip
    return _inert(f"case-{number}", "application/json", _json(content))


def _inert(name: str, kind: str, content: str) -> str:
    """A block that the browser keeps as text."""
    return f'<script type="{kind}" id="{name}">{content}</script>\n'


def _json(value: Any) -> str:
    """JSON that cannot end the element around it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _program() -> str:
    """NiiVue behind its licences, as text that cannot end the element around it."""
    licences = _asset("niivue-licenses.txt")
    return f"/*!\n{licences}*/\n{_asset('niivue.umd.js')}".replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _asset(name: str) -> str:
    return (files("reports.render") / "assets" / name).read_text(encoding="utf-8")


def _bytes(text: str) -> int:
    return len(text.encode(errors="backslashreplace"))
