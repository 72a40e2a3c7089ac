"""axe-core finds nothing serious on any view, by day and by night."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.answer import texts
from tests.web.page import scenes
from tests.web.page.stand_in import StandIn

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = Path(__file__).with_name("axe") / "node_modules" / "axe-core" / "axe.min.js"
WARNINGS = ("The picture looks blurred; focus and take it again if you can.", texts.NOT_CALIBRATED)


def _violations(page: Page) -> list[str]:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (make setup installs it where npm is)")
    page.evaluate(AXE.read_text("utf-8"))
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    assert found["passes"], "axe looked at nothing"
    return [
        f"{one['impact']} {one['id']}: {node['html'][:160]} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical", "moderate"}
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_fault(
    agent: StandIn, sign_in: Callable[..., Page], open_page: Callable[..., Page], scheme: str, size: tuple[int, int]
) -> None:
    scan = agent.add(scenes.answered(1, risk=0.4, warnings=WARNINGS), tell=False)
    below = agent.add(scenes.answered(2, risk=0.01), tell=False)
    refused = agent.add(scenes.without_answer(3, reason="empty", sentence="The file is empty."), tell=False)
    agent.add(scenes.without_answer(4), tell=False)
    agent.judge(below["scan_id"], "melanocytic_nevus")
    look = {"color_scheme": scheme, "viewport": {"width": size[0], "height": size[1]}}
    found = {}
    page = open_page(agent.url, **look)
    page.goto("/")
    page.wait_for_selector("#token")
    found["sign-in"] = _violations(page)
    page = sign_in(**look)
    found["list"] = _violations(page)
    places = {
        "suspicious": (f"#/scan/{scan['scan_id']}", ".is-loaded"),
        "judged": (f"#/scan/{below['scan_id']}", ".is-loaded"),
        "rejected": (f"#/scan/{refused['scan_id']}", ".rejected"),
        "device": ("#/device", ".card"),
    }
    for name, (place, there) in places.items():
        page.goto(f"/{place}")
        page.wait_for_selector(there)
        found[name] = _violations(page)
    page.goto(f"/{places['suspicious'][0]}")
    page.locator("[data-focus=correct]").click()
    page.wait_for_selector(".chooser")
    page.locator("summary", has_text="Model").click()
    found["chooser and details"] = _violations(page)
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    found["keys"] = _violations(page)
    page.keyboard.press("Escape")
    agent.stop()
    page.wait_for_selector("#connection[data-state=lost]")
    found["line lost"] = _violations(page)
    agent.start()
    assert {name: faults for name, faults in found.items() if faults} == {}
