"""The line to the agent: lost and found again, what was missed, sessions that end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.web.page import scenes
from tests.web.page.stand_in import TOKEN, StandIn
from tests.web.page.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_restart_is_shown_and_what_was_missed_is_there_afterwards(
    agent: StandIn, sign_in: Callable[..., Page]
) -> None:
    scan = agent.add(scenes.answered(1, patient="P-1"), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector("[data-focus=confirm]")
    agent.stop()
    page.wait_for_selector("#connection[data-state=lost]")
    assert "The connection to the device is lost." in page.inner_text("#notices")
    agent.add(scenes.answered(2, patient="P-2"), tell=False)
    agent.judge(scan["scan_id"], "melanoma")
    agent.start()
    page.wait_for_selector("#connection[data-state=live]", timeout=15_000)
    page.locator(".row", has_text="P-2").wait_for()
    page.locator(".standing", has_text="Judged: melanoma").wait_for()
    assert "lost" not in page.inner_text("#notices")
    agent.add(scenes.answered(3, patient="P-3"))
    page.locator(".row", has_text="P-3").wait_for()


def test_a_verdict_given_while_the_agent_restarts_is_kept_once(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector("[data-focus=confirm]")
    agent.stop()
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector(".standing[data-pending=true]")
    agent.start()
    page.wait_for_selector("text=Saved: Confirmed", timeout=15_000)
    assert len(scan["verdicts"]) == 1


def test_an_agent_that_says_reload_is_asked_for_everything(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    agent.add(scenes.answered(1, patient="P-1"), tell=False)
    page = sign_in()
    agent.add(scenes.answered(2, patient="P-2"), tell=False)
    agent.tell("reload", {})
    page.locator(".row", has_text="P-2").wait_for()


def test_more_was_missed_than_can_be_caught_up_with(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    agent.add(scenes.answered(1, patient="P-1"), tell=False)
    page = sign_in()
    one = scenes.answered(2)
    agent.scans += [{**one, "seq": seq, "scan_id": f"scan-{seq}", "patient_id": f"P-{seq}"} for seq in range(2, 900)]
    agent.tell("reload", {})
    page.locator(".row", has_text="P-899").wait_for()


def test_an_old_event_does_not_undo_a_newer_one(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page = sign_in()
    agent.add(scenes.answered(1, risk=0.4))
    page.wait_for_selector(".row[data-standing=suspicious]")
    agent.tell("scan", scenes.summary(scenes.without_answer(1)))
    agent.add(scenes.answered(2, patient="P-2"))
    page.locator(".row", has_text="P-2").wait_for()
    assert page.locator(".row[data-standing=working]").count() == 0


def test_a_silent_line_counts_as_lost(agent: StandIn, open_page: Callable[..., Page]) -> None:
    page = open_page(agent.url)
    page.clock.install()
    page.goto(f"/#token={TOKEN}")
    page.wait_for_selector("#connection[data-state=live]")
    page.route("**/api/v1/session", lambda route: route.abort())
    page.clock.pause_at(page.evaluate("Date.now()") + 1000)
    page.clock.run_for(16_500)
    page.wait_for_selector("#connection[data-state=lost]")


def test_an_ended_session_asks_to_sign_in_and_hides_every_patient(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1, patient="P-canary"), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".is-loaded")
    agent.signed_in.clear()
    agent.drop_lines()
    page.wait_for_selector("text=Your session has ended")
    assert "canary" not in page.content()
    assert page.evaluate("document.activeElement.id") == "token"
    page.get_by_label("Access token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Patient P-canary")


def test_signing_out_leaves_nothing_behind(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1, patient="P-canary"), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".is-loaded")
    page.get_by_role("button", name="Sign out Dr Sato").click()
    page.wait_for_selector("#token")
    assert "canary" not in page.content()
    assert agent.signed_in == set()
    page.reload()
    page.wait_for_selector("#token")


def test_a_wrong_token_is_refused_with_a_clear_word(agent: StandIn, open_page: Callable[..., Page]) -> None:
    page = open_page(agent.url)
    page.goto("/#token=dse_wrong")
    page.wait_for_selector("text=This access token is not valid (any more).")
    assert "token=" not in page.url
    page.get_by_label("Access token").fill("dse_wrong_too")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".message[data-kind=failed]")
    assert page.evaluate("document.activeElement.id") == "token"


def test_an_address_that_is_mistyped_breaks_nothing(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page = sign_in("#/scan/%E0%A4%A")
    page.wait_for_selector("text=The device does not know this scan.")


def test_a_page_opened_before_the_agent_is_there_waits_for_it(agent: StandIn, open_page: Callable[..., Page]) -> None:
    page = open_page(agent.url)
    page.route("**/api/v1/session", lambda route: route.abort())
    page.goto("/")
    page.wait_for_selector("text=The device does not answer")
    page.unroute("**/api/v1/session")
    page.wait_for_selector("#token")


def test_the_device_panel_follows_the_device(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page = sign_in("#/device")
    page.wait_for_selector("text=Connected to the cloud.")
    assert page.locator(".card[data-state=good]").count() == 6
    status = agent.status
    status["rungs"] = [
        {"name": "tensorrt", "state": "failed", "detail": "no CUDA driver", "typical_ms": None},
        {"name": "cpu", "state": "ready", "detail": None, "typical_ms": 390.0},
    ]
    status["captures"] = {"in_hand": 2, "waiting": 5}
    status["outbox"] = {"waiting": 7, "acknowledged": 20, "dead": 1, "oldest_waiting_at": scenes.moment(7200)}
    status["cloud"] = {"configured": True, "phase": "waiting", "sentence": "broker: connection refused"}
    status["dermoscopes"][0]["folder_ok"] = False
    status["dermoscopes"][0]["calibration"] |= {"state": "expired", "warnings": ["The colour profile is old."]}
    status["disk"] |= {"full": True}
    status["model"] |= {"demo": True}
    status["warnings"] = ["Something to look after."]
    agent.tell("status", status)
    page.wait_for_selector("text=Something to look after.")
    said = page.inner_text(".device")
    for part in (
        "Ready, on a substitute: processor (CPU).",
        "no CUDA driver",
        "2 being worked on, 5 waiting.",
        "No connection to the cloud.",
        "7 messages wait on the device, the oldest since",
        "1 message could not be delivered.",
        "A dermoscope's folder cannot be reached.",
        "colour profile expired",
        "The storage is full.",
        "Answered by a demonstration model",
    ):
        assert part in said, part
    assert "Demonstration model: not for use with patients." in page.inner_text("#notices")
    assert page.locator(".card[data-state=good]").count() == 1
    assert re.search(r"made 3 days ago", said)
    agent.tell("status", status | {"ready": False})
    page.wait_for_selector("text=The device is starting.")
    until(page, "document.activeElement.classList.contains('scan-title')")
