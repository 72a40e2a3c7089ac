"""A real browser for the page's tests: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.web.page.stand_in import TOKEN, StandIn
from tests.web.page.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

EXPECTED = "Failed to load resource"
"""How the console puts a refusal by the server, which many tests ask for."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, started once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (make setup does it)")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page: ``open_page(url, **context)``. A test fails where the page's own code broke or broke its rules."""
    contexts = []
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(EXPECTED):
            complaints.append(message.text)

    def open_it(url: str, **settings: object) -> Page:
        defaults: dict[str, object] = {
            "base_url": url,
            "viewport": {"width": 1280, "height": 800},
            "locale": "en-GB",
            "timezone_id": "Europe/Berlin",
            "reduced_motion": "reduce",
        }
        context = chromium.new_context(**{**defaults, **settings})  # type: ignore[arg-type]
        context.set_default_timeout(8000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not complaints, f"the page complained: {complaints}"


@pytest.fixture
def agent() -> Iterator[StandIn]:
    """The agent's stand-in."""
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def sign_in(agent: StandIn, open_page: Callable[..., Page]) -> Callable[..., Page]:
    """Open the page, signed in: ``sign_in("#/device", **context)``."""

    def go(place: str = "#/", **settings: object) -> Page:
        page = open_page(agent.url, **settings)
        page.goto(f"/#token={TOKEN}")
        page.wait_for_selector("#connection[data-state=live]")
        until(page, "!document.querySelector('.rows-foot').textContent.includes('…')")
        if place != "#/":
            page.goto(f"/{place}")
        return page

    return go
