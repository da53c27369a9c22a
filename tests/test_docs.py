"""The documents: short, in the field's words, and with figures that the committed runs give."""

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

from reports.records.store import read_run
from reports.summary.summarise import summarise

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts/fill_tables.py"))
pages, filled = SCRIPT["pages"], SCRIPT["filled"]
PAGES = [*pages(), ROOT / "CONTRIBUTING.md"]
FIGURE = re.compile(r"(?<![\w.,^])[-+]?\d[\d.,]*")
NOT_PROSE = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL)
PRIVATE = re.compile(
    r"\b(arms?|duels?|duell?ing|told|tells? of|doubts?|ambient|disturb\w*|parity|surroundings|stand-ins?|disassembly"
    r"|round and (?:round )?about|speaks? against|contradiction|stitcher)\b",
    re.IGNORECASE,
)
HISTORY = re.compile(r"\b(since then|the first runs|no longer|used to)\b|(?<!from )\bbefore,", re.IGNORECASE)


def of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def paragraphs(text: str) -> list[str]:
    """Paragraphs and items of lists, without tables, headings and code."""
    prose = re.sub(r"^(?:\||#).*$", "", NOT_PROSE.sub(" ", text), flags=re.MULTILINE)
    return re.split(r"\n\s*\n|\n(?=[-*] |\d+\. )", prose)


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_pages_are_short(page):
    words = len(page.read_text(encoding="utf-8").split())
    most = 600 if page == ROOT / "README.md" else 1500
    assert words <= most or (ROOT / "docs/reference") in page.parents


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_a_paragraph_holds_at_most_ten_figures(page):
    figures = {block: len(FIGURE.findall(block)) for block in paragraphs(page.read_text(encoding="utf-8"))}
    assert [block for block, number in figures.items() if number > 10] == []


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_pages_use_the_words_of_the_field_and_tell_no_history(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    private = [] if page.name == "glossary.md" else [line for line in lines if PRIVATE.search(line)]
    assert private + [line for line in lines if HISTORY.search(line)] == []


@pytest.mark.parametrize("page", pages(), ids=of)
def test_tables_are_those_that_make_docs_writes(page):
    assert page.read_text(encoding="utf-8") == filled(page)


def test_the_tables_hold_figures():
    assert sum(page.read_text(encoding="utf-8").count("<!-- table:") for page in pages()) > 10


def test_the_figures_of_a_run_are_those_of_its_confirmation():
    against, cases, headline = (SCRIPT[name] for name in ("against", "cases", "headline"))
    assert against("bodies-width32", "peer-monai-fp32").startswith(
        f"{headline('bodies-width32').speedup.estimate:.2f}x"
    )
    assert (cases("bodies-width32"), cases("peers")) == ("16 (time: 5)", "36")
    assert SCRIPT["variant_of"]("demo-int8") == "`openvino-int8`", "which is refuted, and was measured"


def test_the_readme_shows_a_report():
    assert "](docs/report.png)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "docs/report.png").read_bytes().startswith(b"\x89PNG")
    assert (ROOT / "docs/report.png").stat().st_size < 210_000
    script = runpy.run_path(str(ROOT / "scripts/picture_of_report.py"))
    with Image.open(ROOT / "docs/report.png") as picture:
        assert picture.text["Description"] == script["description"](summarise(read_run(script["RUN"]))), "make docs"


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    linked = [page for page in pages() if page.parent != ROOT and page.name != "README.md"]
    assert [of(page) for page in linked if f"({page.relative_to(ROOT / 'docs')})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_files_that_a_page_names_are_there(page):
    names = set(
        re.findall(r"`((?:tests|scripts|engines|bench|models|reports)/[\w/]+\.(?:py|sh|toml))", page.read_text())
    )
    assert [name for name in sorted(names) if not (ROOT / name).is_file()] == []
