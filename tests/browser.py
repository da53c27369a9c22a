"""Pages in the system's Chromium, headless: what they show, and that they say and ask nothing they should not."""

import asyncio
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox",  # a container's root has none
    "--use-angle=swiftshader",  # WebGL2 without a GPU
    "--enable-unsafe-swiftshader",
)
LOCAL = ("file:", "data:", "blob:", "about:")


@dataclass
class View:
    """A page that is open, and what came of it: what it wrote to the console, threw and asked of the network."""

    page: Page
    said: list[str] = field(default_factory=list)  # warnings and errors of the console
    thrown: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)  # addresses beyond the file itself

    def __post_init__(self) -> None:
        self.page.on("console", lambda line: self.said.append(line.text) if line.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.thrown.append(str(error)))
        self.page.on(
            "request",
            lambda request: None if request.url.startswith(LOCAL) else self.requested.append(request.url),
        )

    def assert_clean(self) -> None:
        assert (self.said, self.thrown, self.requested) == ([], [], [])

    def axe_faults(self) -> list[str]:
        """What axe-core finds that is serious or critical: its rule and the element."""
        return [
            f"{rule['id']}: {node['html'][:200]}"
            for rule in Axe().run(self.page).response["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]


@dataclass
class Opener:
    """Opens files in one browser; each page has a context of its own, without network."""

    browser: Browser
    views: list[View] = field(default_factory=list)

    def open(
        self,
        path: Path,
        *,
        colours: Literal["light", "dark"] = "light",
        javascript: bool = True,
        width: int = 1280,
        height: int = 900,
    ) -> View:
        context = self.browser.new_context(
            color_scheme=colours,
            java_script_enabled=javascript,
            offline=True,
            viewport={"width": width, "height": height},
        )
        view = View(context.new_page())
        self.views.append(view)
        view.page.goto(path.resolve().as_uri())
        return view

    def close(self) -> None:
        """Closes the pages; the browser stays."""
        while self.views:
            self.views.pop().page.context.close()


def executable() -> str | None:
    """The system's Chromium, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Chromium:
    """A browser, from its start to `close`.

    Playwright leaves its event loop set as the running one of the thread, so it is set aside between the tests: one
    that runs a loop of its own could not otherwise.
    """

    def __init__(self, path: str) -> None:
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        self._loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)

    @contextmanager
    def pages(self) -> Iterator[Opener]:
        with self._running():
            opener = Opener(self._browser)
            yield opener
            opener.close()

    def close(self) -> None:
        with self._running():
            self._browser.close()
            self._playwright.stop()

    @contextmanager
    def _running(self) -> Iterator[None]:
        asyncio._set_running_loop(self._loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)


def pixels(element: Locator | Page) -> NDArray[np.uint8]:
    """A screenshot of it, [height, width, RGB]."""
    with Image.open(io.BytesIO(element.screenshot())) as image:
        return np.asarray(image.convert("RGB"))
