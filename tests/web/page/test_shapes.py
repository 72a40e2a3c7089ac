"""Screens of all sizes, large targets, paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from agent.answer import texts
from tests.web.page import scenes
from tests.web.page.stand_in import StandIn

if TYPE_CHECKING:
    from playwright.sync_api import Page

WARNINGS = ("The picture looks blurred; focus and take it again if you can.", texts.NOT_CALIBRATED)
SIZES = {
    "200 % of 1280": (640, 400),
    "phone": (390, 844),
    "narrowest": (320, 640),
    "upright": (800, 1280),
    "workstation": (1280, 800),
}
CUT = """[...document.querySelectorAll(".button, .card, .part, .figures li")]
  .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"""
WIDER = (
    "document.documentElement.scrollWidth > innerWidth || document.getElementById('content').scrollWidth > innerWidth"
)


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
def test_nothing_scrolls_sideways(agent: StandIn, sign_in: Callable[..., Page], language: str) -> None:
    scan = agent.add(scenes.answered(1, risk=0.4, warnings=WARNINGS, patient="P" * 64), tell=False)
    refused = agent.add(scenes.without_answer(2, reason="empty", sentence="The file is empty."), tell=False)
    page = sign_in(locale=language)
    places = {
        "#/": ".row",
        "#/device": ".card",
        f"#/scan/{refused['scan_id']}": ".rejected",
        f"#/scan/{scan['scan_id']}": ".is-loaded",
    }
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for place, there in places.items():
            page.goto(f"/{place}")
            page.wait_for_selector(there, state="attached")
            assert not page.evaluate(WIDER), (size, place)
            assert page.locator(".adjunct").is_visible()
        page.locator("[data-focus=correct]").click()
        page.wait_for_selector(".chooser")
        page.locator("[data-focus=beside]").click()
        assert not page.evaluate(WIDER), (size, "chooser, side by side")
        assert page.evaluate(CUT) == [], (size, "words that do not fit their button")
        page.locator("[data-focus=beside]").click()
        page.locator("[data-focus=cancel]").click()


def test_on_a_small_screen_list_and_scan_take_turns(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    agent.add(scenes.answered(1, patient="P-1"), tell=False)
    page = sign_in(viewport={"width": 390, "height": 844}, has_touch=True)
    page.locator(".row").tap()
    page.wait_for_selector(".is-loaded")
    assert not page.locator("#rows").is_visible()
    page.get_by_role("button", name="Back to the list").tap()
    page.locator(".row").wait_for()
    assert not page.locator("#content").is_visible()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_targets_are_large_enough_for_gloves(
    agent: StandIn, sign_in: Callable[..., Page], size: tuple[int, int]
) -> None:
    scan = agent.add(scenes.answered(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}", viewport={"width": size[0], "height": size[1]})
    page.wait_for_selector(".is-loaded")
    page.locator("[data-focus=histopathology]").click()
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, summary, a[href], label:has(input), .slider, .row")]
          .filter((one) => one.checkVisibility() && !one.classList.contains("skip"))
          .map((one) => [one.textContent.trim() || one.getAttribute("aria-label"), one.getBoundingClientRect()])
          .filter(([, box]) => box.height < 44 || box.width < 44)
          .map(([words, box]) => `${words}: ${box.width} x ${box.height}`)"""
    )
    assert small == []


def test_the_printed_sheet_is_one_page_with_everything_on_it(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(
        scenes.answered(1, risk=0.4, warnings=(*WARNINGS, texts.late(4.2, 3.0)), patient="P-9", model="demo/1.0.0"),
        tell=False,
    )
    agent.judge(scan["scan_id"], "melanoma")
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".is-loaded")
    page.emulate_media(media="print")
    assert page.locator(".sheet").is_visible()
    for hidden in (".bar", "main", ".adjunct", "#notices"):
        assert not page.locator(hidden).is_visible()
    said = page.inner_text(".sheet")
    for part in (
        "Adjunct for trained clinicians; not a diagnosis.",
        "Patient P-9",
        "left forearm",
        "not for use with patients",
        *WARNINGS,
        "Suspicious for melanoma",
        "Operating threshold 12%",
        texts.REFER_URGENTLY,
        "seborrhoeic or lichenoid keratosis",
        "Judged: melanoma",
        "demo/1.0.0",
        "processor (CPU)",
        scan["scan_id"],
        "Clinician's signature",
    ):
        assert part in said, part
    drawn = page.evaluate(
        """() => [...document.querySelectorAll(".sheet canvas")].map((canvas) => {
          const middle = canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height * 0.45, 1, 1).data;
          return [canvas.width, [...middle]];
        })"""
    )
    assert [width for width, _ in drawn] == [900, 900]
    assert drawn[0][1] != drawn[1][1], "the second has the attention over it"
    content = page.pdf(prefer_css_page_size=True)
    assert re.findall(rb"/Type /Pages\s.*?/Count (\d+)", content, re.DOTALL) == [b"1"], "one sheet of paper"


def test_no_picture_of_one_patient_is_printed_with_anothers_words(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    first = agent.add(scenes.answered(1, patient="P-1"), tell=False)
    second = agent.add(scenes.answered(2, patient="P-2"), tell=False)
    page = sign_in(f"#/scan/{first['scan_id']}")
    page.wait_for_selector(".is-loaded")
    page.route("**/view.jpg*", lambda route: route.abort())
    page.goto(f"/#/scan/{second['scan_id']}")
    page.wait_for_selector("text=Patient P-2")
    sheet = page.evaluate(
        """() => [document.querySelector(".sheet").textContent,
          [...document.querySelectorAll(".sheet canvas")].map((canvas) => canvas.width)]"""
    )
    assert "P-1" not in sheet[0]
    assert 900 not in sheet[1]
