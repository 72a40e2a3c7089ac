"""Names that are written to break pages stay names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.web.page import scenes
from tests.web.page.stand_in import StandIn

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)}",
    "\u202egnp.1-P\u202c",
    "P-1</title></textarea><iframe srcdoc='<script>alert(1)</script>'>",
    "{name} {risk} {count}",
    "\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627 \u60a3\u8005",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
def test_hostile_names_are_shown_as_they_are(
    agent: StandIn, sign_in: Callable[..., Page], name: str, language: str
) -> None:
    said = f"The patient file {name} cannot be read; the answer is without its details."
    scan = scenes.answered(1, patient=name, site=name, warnings=(said,))
    scan["dermoscope_id"] = scan["answer"]["passed_over"] = name
    scan["answer"]["passed_over"] = [{"backend": name, "reason": name}]
    scan["answer"]["recommendation"] = scan["answer"]["model_version"] = name
    agent.add(scan, tell=False)
    agent.judge(scan["scan_id"], "melanoma", by=name)
    scan["verdicts"][-1]["note"] = name
    agent.add(scenes.without_answer(2, reason="damaged", sentence=name), tell=False)
    agent.status["warnings"] = [name]
    agent.status["device_id"] = agent.status["rungs"][0]["name"] = agent.status["cloud"]["phase"] = name
    page = sign_in(f"#/scan/{scan['scan_id']}", locale=language)
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.wait_for_selector(".is-loaded")
    assert name in str(page.text_content(".scan-title"))
    assert name in str(page.text_content(".scan-warnings"))
    assert name in str(page.text_content(".scan-verdict"))
    assert name in str(page.text_content(".scan-result"))
    assert name in str(page.text_content(".sheet"))
    assert name in str(page.text_content("#rows"))
    page.goto("/#/device")
    page.wait_for_selector(".card")
    assert name in str(page.text_content(".device"))
    assert page.locator("iframe, script:not([src='/page/main.js']), [onerror], [onload], svg[onload]").count() == 0
    assert page.locator("img").count() == 0
    assert asked == []
