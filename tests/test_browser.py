"""The browser of the tests notices what a page must not do."""

import asyncio

import numpy as np
import pytest

from tests.browser import pixels

PAGE = """<!doctype html><meta charset="utf-8"><title>x</title>
<style>:root {{ color-scheme: light dark }} canvas {{ width: 50px; height: 50px }}</style><canvas></canvas>
<script>{script}</script>"""
DRAWS = """
const gl = document.querySelector("canvas").getContext("webgl2");
gl.clearColor(0, 0.4, 1, 1); gl.clear(gl.COLOR_BUFFER_BIT);
document.title = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
"""


@pytest.fixture
def page(tmp_path):
    def write(script):
        path = tmp_path / "page.html"
        path.write_text(PAGE.format(script=script))
        return path

    return write


def test_a_canvas_of_webgl2_has_the_pixels_it_was_given(browser, page):
    view = browser.open(page(DRAWS), colours="dark")
    assert np.median(pixels(view.page.locator("canvas")), axis=(0, 1)).tolist() == [0, 102, 255]
    assert view.page.title() == "dark"
    assert view.page.pdf().startswith(b"%PDF")
    view.assert_clean()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("console.error('broken')", "said"),
        ("setTimeout(() => { throw Error('broken') })", "thrown"),
        ("fetch('https://voxbench.invalid/x').catch(() => 0)", "requested"),
    ],
)
def test_what_a_page_must_not_do_is_noticed(browser, page, script, kind):
    view = browser.open(page(script))
    view.page.wait_for_timeout(50)
    assert getattr(view, kind)
    with pytest.raises(AssertionError):
        view.assert_clean()


def test_scripts_can_be_forbidden(browser, page):
    assert browser.open(page(DRAWS), javascript=False).page.title() == "x"


def test_the_event_loop_of_the_browser_is_out_of_the_way_of_others(chromium):
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
