"""The page in a real browser: quiet, alone, to be read without a mouse and without scripts, and in print."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from reports.records.store import read_run
from reports.render import markdown_files, render
from reports.summary.answer import answer
from reports.summary.summarise import summarise
from reports.summary.summary import Summary
from tests.browser import pixels

RESULTS = Path(__file__).parents[3] / "docs/results"
RUNS = {
    "cpu": "peers-width32-vnni",
    "gpu": "gpu-h100-first",
    "refuted": "demo-int8",
    "105-structures": "many-structures",
    "agreement": "demo-agreement",
}
SCREEN = {"width": 1360, "height": 925}
FOCUSED = """() => {
  const e = document.activeElement, box = e.getBoundingClientRect();
  const words = e.innerText.trim().split("\\n")[0] || "";
  return [e.tagName, words, e.getAttribute("aria-label") || "", box.width * box.height];
}"""
SHOWN = """() => [...document.querySelectorAll("details.topic table")].map(
  e => e.checkVisibility({ contentVisibilityAuto: true }) && e.getBoundingClientRect().height > 0)"""
pytestmark = pytest.mark.xdist_group("chromium")


@cache
def summary_of(name: str) -> Summary:
    return summarise(read_run(RESULTS / RUNS[name]))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def written(name: str) -> Path:
        path = folder / f"{name}.html"
        path.write_text(render(summary_of(name), "html"), encoding="utf-8")
        return path

    return written


@pytest.mark.parametrize("name", RUNS)
def test_a_page_is_quiet_and_accessible_and_its_answer_fits_a_screen(browser, pages, name) -> None:
    view = browser.open(pages(name), **SCREEN)
    first = view.page.locator("header").bounding_box()
    contents = view.page.locator("nav").bounding_box()
    assert first["y"] + first["height"] < contents["y"] + contents["height"] <= SCREEN["height"]
    assert view.page.evaluate("document.documentElement.scrollWidth") <= SCREEN["width"], "nothing to the side"
    said = answer(summary_of(name))
    shown = view.page.locator("header").inner_text()
    for text in (said.worst_case, said.machine, *(each.value for each in said.figures)):
        assert text in shown
    view.page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert view.axe_faults() == []
    view.assert_clean()


def test_faults_of_a_page_are_noticed(browser, tmp_path) -> None:
    (tmp_path / "page.html").write_text('<html lang="en"><title>x</title><main><img src="data:,">a', encoding="utf-8")
    faults = browser.open(tmp_path / "page.html").axe_faults()
    assert [fault.partition(":")[0] for fault in faults] == ["image-alt"]


@pytest.mark.parametrize("name", ["cpu"])
def test_in_the_dark_it_is_as_readable(browser, pages, name) -> None:
    view = browser.open(pages(name), colours="dark", **SCREEN)
    assert view.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert view.axe_faults() == []
    ink = "[...document.querySelectorAll('#charts svg text')].map(e => getComputedStyle(e).fill)"
    assert set(view.page.evaluate(ink)) == {"rgb(230, 237, 243)"}, "the charts' text follows"


def test_the_keyboard_reaches_every_fold_and_every_table(browser, pages) -> None:
    view = browser.open(pages("105-structures"), **SCREEN)
    folds = view.page.locator("summary").all_inner_texts()
    reached, regions = [], []
    view.page.keyboard.press("Tab")
    assert view.page.evaluate(FOCUSED)[1] == "To the content"
    for _ in range(90):
        view.page.keyboard.press("Tab")
        tag, text, label, area = view.page.evaluate(FOCUSED)
        if tag == "BODY":
            break
        assert area > 0, f"{tag} {text} {label} is not to be seen"
        if tag == "SUMMARY":
            reached.append(text)
            view.page.keyboard.press("Enter")
        elif label:
            regions.append(label)
    assert tag == "BODY", "the keyboard leaves the page again"
    assert len(reached) == view.page.locator("summary").count() >= len(folds)
    assert regions == view.page.eval_on_selector_all(".table", "all => all.map(e => e.getAttribute('aria-label'))")
    assert len(set(regions)) == len(regions) > 10


def test_a_link_of_the_contents_opens_its_fold(browser, pages) -> None:
    page = browser.open(pages("cpu"), javascript=False, **SCREEN).page
    table = page.get_by_role("region", name="Roofline")
    assert not table.is_visible()
    page.get_by_role("navigation", name="Contents").get_by_role("link", name="Resources").click()
    assert table.is_visible()


def test_headings_and_landmarks_are_in_order(browser, pages) -> None:
    page = browser.open(pages("cpu"), **SCREEN).page
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(e => Number(e.tagName[1]))")
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.eval_on_selector_all("body > *", "all => all.map(e => e.tagName)") == ["A", "HEADER", "NAV", "MAIN"]
    assert page.get_attribute("html", "lang") == "en"


def test_print_opens_every_fold(browser, pages) -> None:
    assert not any(browser.open(pages("cpu"), **SCREEN).page.evaluate(SHOWN))
    page = browser.open(pages("cpu"), **SCREEN).page
    page.emulate_media(media="print")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    shown = page.evaluate(SHOWN)
    assert all(shown)
    assert len(shown) > 15
    breaks = "[...document.querySelectorAll('tr, figure')].map(e => getComputedStyle(e).breakInside)"
    assert set(page.evaluate(breaks)) == {"avoid"}
    assert page.pdf(format="A4").count(b"/Type /Page\n") > 5


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser, pages) -> None:
    page = browser.open(pages("cpu"), width=390, height=800).page
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('.table')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert page.evaluate(wide) > 5
    letters = "[...document.querySelectorAll('#charts svg text')].map(e => e.getBoundingClientRect().height)"
    assert min(page.evaluate(letters)) > 9, "pixels: the charts scroll as the tables do"


def test_the_picture_beside_the_markdown_follows_light_and_dark(browser, tmp_path) -> None:
    files = markdown_files(summary_of("agreement"))
    assert "](report.svg)" in files["report.md"]
    (tmp_path / "report.svg").write_text(files["report.svg"], encoding="utf-8")
    inks = {}
    for colours in ("light", "dark"):
        view = browser.open(tmp_path / "report.svg", colours=colours)
        inks[colours] = view.page.evaluate("getComputedStyle(document.querySelector('text')).fill")
        view.assert_clean()
        shown = pixels(view.page)
        assert (shown[0, 0] > 128).all() == (colours == "light"), "the page's own ground, for its own ink"
    assert inks == {"light": "rgb(31, 35, 40)", "dark": "rgb(230, 237, 243)"}
