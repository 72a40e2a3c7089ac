"""The list: what it says of scans, that new ones come by themselves, and that many stay fluent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.web.page import scenes
from tests.web.page.stand_in import TOKEN, StandIn
from tests.web.page.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def _row(page: Page, text: str) -> Locator:
    return page.locator(".row", has_text=text)


def test_a_new_scan_appears_by_itself_and_is_announced(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page = sign_in()
    page.wait_for_selector("text=No scans yet today.")
    agent.add(scenes.without_answer(1))
    page.wait_for_selector(".row[data-standing=working]")
    began = time.monotonic()
    agent.add(scenes.answered(1, risk=0.31, patient="P-77"))
    page.wait_for_selector(".row[data-standing=suspicious]")
    assert time.monotonic() - began < 1.0
    assert "P-77" in page.inner_text(".row")
    assert "Suspicious for melanoma" in page.inner_text(".row")
    until(page, "document.getElementById('announcer').textContent === 'New scan: Suspicious for melanoma.'")


def test_the_words_follow_the_operating_rule_and_not_the_first_class(
    agent: StandIn, sign_in: Callable[..., Page]
) -> None:
    agent.add(scenes.answered(1, risk=0.1432, primary="melanocytic_nevus", patient="over"), tell=False)
    melanoma_first = scenes.answered(2, risk=0.11, primary="melanoma", patient="under")
    agent.add(melanoma_first, tell=False)
    page = sign_in()
    assert "Suspicious for melanoma" in _row(page, "over").inner_text()
    assert "Below the threshold" in _row(page, "under").inner_text()


def test_a_risk_never_looks_like_the_threshold_that_it_is_below(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1, risk=scenes.THRESHOLD - 0.0001), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    said = page.locator(".verdict-risk").inner_text()
    shown = re.findall(r"[\d.]+%", said)
    assert len(set(shown)) == 2
    assert "below" in said


def test_earlier_scans_are_behind_all(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    agent.add(scenes.answered(1, patient="yesterday", seconds_ago=86_400 * 2), tell=False)
    agent.add(scenes.answered(2, patient="today"), tell=False)
    page = sign_in()
    assert page.locator(".row").count() == 1
    page.get_by_role("button", name="All").click()
    _row(page, "yesterday").wait_for()
    assert page.locator(".row").count() == 2
    assert page.get_by_role("button", name="All").get_attribute("aria-pressed") == "true"


def test_ten_thousand_scans_stay_fluent(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    one = scenes.answered(1)
    agent.scans = [{**one, "seq": seq, "scan_id": f"scan-{seq}", "patient_id": f"P-{seq}"} for seq in range(1, 10_001)]
    page = sign_in()
    assert page.locator(".row").count() < 40
    page.locator("#rows").focus()
    for _ in range(400):
        height = page.evaluate("document.getElementById('rows').scrollHeight")
        page.keyboard.press("End")
        if page.evaluate("document.querySelector('.rows-foot').textContent").startswith("10,000"):
            break
        until(
            page,
            f"document.getElementById('rows').scrollHeight > {height} || "
            "document.querySelector('.rows-foot').textContent.startsWith('10,000')",
        )
    page.keyboard.press("End")
    _row(page, "P-1").first.wait_for()
    assert page.locator(".row").count() < 40, "only what is in sight is in the document"
    took = page.evaluate(
        """async () => {
          const rows = document.getElementById("rows");
          let longest = 0;
          for (let at = rows.scrollHeight; at > 0; at -= rows.scrollHeight / 60) {
            const began = performance.now();
            rows.scrollTop = at;
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            longest = Math.max(longest, performance.now() - began);
          }
          return longest;
        }"""
    )
    assert took < 500, f"a jump through the list took {took:.0f} ms"
    agent.add({**one, "seq": 10_001, "scan_id": "scan-10001", "patient_id": "the newest"})
    page.keyboard.press("Home")
    _row(page, "the newest").wait_for()


def test_what_is_being_read_stays_in_its_place_when_new_scans_come(
    agent: StandIn, sign_in: Callable[..., Page]
) -> None:
    for seq in range(1, 60):
        agent.add(scenes.answered(seq, patient=f"P-{seq}"), tell=False)
    page = sign_in()
    page.evaluate("document.getElementById('rows').scrollTop = 1600")
    _row(page, "P-38").wait_for()
    before = _row(page, "P-38").bounding_box()
    agent.add(scenes.answered(60, patient="P-60"))
    page.get_by_role("button", name="1 new scan above").wait_for()
    after = _row(page, "P-38").bounding_box()
    assert before is not None
    assert after is not None
    # The button takes its room from the list's upper end.
    assert abs(after["y"] - before["y"]) < 80
    page.get_by_role("button", name="1 new scan above").click()
    _row(page, "P-60").wait_for()


def test_a_device_whose_clock_is_wrong_hides_no_scan(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    agent.status |= {"clock_trusted": False, "started_at": "1970-01-01T00:00:10.000Z", "uptime_s": 60.0}

    def in_1970(seq: int) -> scenes.Json:
        scan = scenes.answered(seq, patient=f"P-{seq}")
        return {**scan, "received_at": f"1970-01-01T00:00:{seq:02d}.000Z", "clock_trusted": False}

    agent.add(in_1970(20), tell=False)
    page = sign_in()
    _row(page, "P-20").wait_for()
    assert page.get_by_role("button", name="All").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Today").click()
    page.wait_for_selector("text=No scans yet today.")
    agent.add(in_1970(21))
    _row(page, "P-21").click()
    page.wait_for_selector("text=The device's clock was not set")


def test_several_scans_are_announced_in_one_sentence(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page = sign_in()
    for seq in range(1, 4):
        agent.add(scenes.answered(seq, risk=0.4 if seq == 2 else 0.01))
    until(
        page, "document.getElementById('announcer').textContent === '3 new scans, 1 of them suspicious for melanoma.'"
    )


def test_new_scans_open_by_themselves_only_where_asked(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page = sign_in()
    agent.add(scenes.answered(1, patient="P-1"))
    page.wait_for_selector(".row")
    assert page.evaluate("location.hash") in {"", "#/"}
    page.get_by_label("Open new scans by themselves").check()
    second = agent.add(scenes.answered(2, patient="P-2"))
    until(page, f"location.hash === '#/scan/{second['scan_id']}'")
    page.locator("[data-focus=correct]").click()
    page.wait_for_selector(".chooser")
    agent.add(scenes.answered(3, patient="P-3"))
    _row(page, "P-3").wait_for()
    assert page.locator(".scan-title").inner_text() == "Patient P-2", "a verdict begun is not taken away"


def test_a_list_that_could_not_be_loaded_says_so_and_can_be_tried_again(
    agent: StandIn, sign_in: Callable[..., Page]
) -> None:
    agent.add(scenes.answered(1, patient="P-1"), tell=False)
    page = sign_in()
    page.route("**/api/v1/scans?*", lambda route: route.fulfill(status=500, body="{}"))
    page.get_by_role("button", name="All").click()
    page.wait_for_selector("text=The list could not be loaded.")
    page.unroute("**/api/v1/scans?*")
    page.get_by_role("button", name="Try again").click()
    _row(page, "P-1").wait_for()


def test_the_address_holds_neither_token_nor_patient(agent: StandIn, open_page: Callable[..., Page]) -> None:
    agent.add(scenes.answered(1, patient="P-canary"), tell=False)
    page = open_page(agent.url)
    page.goto(f"/#token={TOKEN}")
    page.locator(".row").click()
    page.wait_for_selector(".is-loaded")
    assert TOKEN not in page.url
    assert not page.evaluate("[...Array(history.length)].some(() => location.href.includes('token'))")
    assert not [asked for asked in agent.asked if "canary" in asked or TOKEN in asked]
    assert "canary" not in page.title()
