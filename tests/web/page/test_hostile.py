"""Names that are written to break pages stay names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.web.page import scenes
from tests.web.page.stand_in import StandIn

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

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


def _hostile_scan(seq: int, name: str) -> scenes.Json:
    said = f"The patient file {name} cannot be read; the answer is without its details."
    scan = scenes.answered(seq, patient=name, site=name, warnings=(said,))
    scan["dermoscope_id"] = name
    scan["answer"]["passed_over"] = [{"backend": name, "reason": name}]
    scan["answer"]["recommendation"] = scan["answer"]["model_version"] = name
    return scan


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
def test_hostile_names_are_shown_as_they_are(agent: StandIn, sign_in: Callable[..., Page], language: str) -> None:
    for seq, name in enumerate(HOSTILE):
        scan = agent.add(_hostile_scan(2 * seq, name), tell=False)
        agent.judge(scan["scan_id"], "melanoma", by=name)
        scan["verdicts"][-1]["note"] = name
        agent.add(scenes.without_answer(2 * seq + 1, reason="damaged", sentence=name), tell=False)
    agent.status["warnings"] = HOSTILE
    agent.status["device_id"] = agent.status["rungs"][0]["name"] = agent.status["cloud"]["phase"] = HOSTILE[0]
    page = sign_in(locale=language, viewport={"width": 1280, "height": 2400})
    asked: list[str] = []

    def hear(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", hear)
    for scan, refused, name in zip(agent.scans[::2], agent.scans[1::2], HOSTILE, strict=True):
        page.goto(f"/#/scan/{refused['scan_id']}")
        page.wait_for_selector(".rejected-why")
        assert page.text_content(".rejected-why") == name
        page.goto(f"/#/scan/{scan['scan_id']}")
        page.wait_for_selector(".is-loaded")
        for part in (".scan-title", ".scan-warnings", ".scan-verdict", ".scan-result", ".sheet", "#rows"):
            assert name in str(page.text_content(part)), (part, name)
        _nothing_foreign(page)
    page.goto("/#/device")
    page.wait_for_selector(".card")
    assert all(name in str(page.text_content(".device")) for name in HOSTILE)
    _nothing_foreign(page, pictures=0)
    assert asked == []


def _nothing_foreign(page: Page, pictures: int = 1) -> None:
    assert page.locator("iframe, script:not([src='/page/main.js']), [onerror], [onload]").count() == 0
    assert page.locator("img").count() == pictures
