"""Verdicts: at once, taken back with a word where the agent does not take them, undone by superseding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from tests.web.page import scenes
from tests.web.page.stand_in import StandIn, problem
from tests.web.page.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page


def _open(agent: StandIn, sign_in: Callable[..., Page], **made: Any) -> tuple[Page, dict[str, Any]]:
    scan = agent.add(scenes.answered(1, **made), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector("[data-focus=confirm]")
    return page, scan


def test_a_confirmation_shows_at_once_and_is_kept(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    agent.taking.clear()
    took = page.evaluate(
        """() => {
          const began = performance.now();
          document.querySelector("[data-focus=confirm]").click();
          return document.querySelector(".standing[data-pending=true]") ? performance.now() - began : null;
        }"""
    )
    assert took is not None, "the verdict is shown before the agent has said a word"
    assert took < 100
    assert "Confirmed: melanocytic naevus" in page.inner_text(".standing")
    until(page, "document.querySelector('.row').textContent.includes('Confirmed')")  # drawn with the next frame
    assert agent.given == []
    agent.taking.set()
    page.wait_for_selector("text=Saved: Confirmed: melanocytic naevus.")
    page.wait_for_selector(".standing[data-pending=false]")
    assert "Dr Sato" in page.inner_text(".standing")
    assert [one["diagnosis"] for one in scan["verdicts"]] == ["melanocytic_nevus"]
    assert agent.given[0][1] == {"diagnosis": "melanocytic_nevus", "source": "clinician", "expected": None}


LOOK = """() => ["confirm", "correct", "histopathology"].map((name) => {
  const button = document.querySelector(`[data-focus=${name}]`);
  const style = getComputedStyle(button);
  const { width, height } = button.getBoundingClientRect();
  const colours = ["color", "backgroundColor", "borderColor", "boxShadow", "filter", "opacity"];
  const read = [...colours, "borderWidth", "fontWeight", "fontSize"];
  return JSON.stringify([Math.round(width), Math.round(height), ...read.map((key) => style[key])]);
})"""


@pytest.mark.parametrize("width", [390, 1000, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("risk", [0.01, 0.4])
def test_no_verdict_is_nudged(
    agent: StandIn, sign_in: Callable[..., Page], risk: float, scheme: str, width: int
) -> None:
    scan = agent.add(scenes.answered(1, risk=risk), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}", color_scheme=scheme, viewport={"width": width, "height": 800})
    page.wait_for_selector("[data-focus=confirm]")
    looks = page.evaluate(LOOK)
    assert len(set(looks)) == 1, f"the buttons do not look alike: {looks}"
    assert not page.evaluate("document.activeElement.closest('.actions')"), "none of them waits for Enter"


def test_after_an_undo_enter_confirms_nothing(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector("text=Saved: Confirmed")
    page.locator("[data-focus=undo]").press("Enter")
    page.wait_for_selector("text=The verdict was withdrawn.")
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    assert [one["diagnosis"] for one in scan["verdicts"]] == ["melanocytic_nevus", None]


def test_a_correction_and_its_undoing(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    page.locator("[data-focus=correct]").click()
    choices = page.locator(".choices .button").all_inner_texts()
    assert len(choices) == 6
    assert "melanocytic naevus" not in choices, "the suggestion itself is no correction of it"
    page.get_by_label("Note").fill("asymmetric, blue veil")
    page.get_by_role("button", name="melanoma", exact=True).click()
    page.wait_for_selector("text=Saved: Judged: melanoma.")
    assert "asymmetric, blue veil" in page.inner_text(".standing")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("text=The verdict was withdrawn.")
    page.wait_for_selector("text=No verdict yet.")
    assert [(one["diagnosis"], one["note"]) for one in scan["verdicts"]] == [
        ("melanoma", "asymmetric, blue veil"),
        (None, None),
    ]
    assert scan["verdicts"][1]["supersedes"] == scan["verdicts"][0]["verdict_id"]


def test_undoing_a_second_verdict_brings_the_first_back(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector("text=Saved: Confirmed")
    page.locator("[data-focus=histopathology]").click()
    page.get_by_role("button", name="basal cell carcinoma", exact=True).click()
    page.wait_for_selector("text=Saved: Histopathology: basal cell carcinoma.")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("text=Saved: Confirmed")
    assert [(one["diagnosis"], one["source"]) for one in scan["verdicts"]] == [
        ("melanocytic_nevus", "clinician"),
        ("basal_cell_carcinoma", "histopathology"),
        ("melanocytic_nevus", "clinician"),
    ]
    page.locator("summary", has_text="History (3 entries)").click()
    assert page.locator(".history li").count() == 3


def test_histopathology_may_agree_with_the_suggestion(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    page.locator("[data-focus=histopathology]").click()
    assert page.locator(".choices .button").count() == 7
    page.get_by_role("button", name="melanocytic naevus", exact=True).click()
    page.wait_for_selector("text=Saved: Histopathology: melanocytic naevus.")
    assert scan["verdicts"][0]["source"] == "histopathology"


def test_a_follow_up_is_a_source_too(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    page.locator("[data-focus=correct]").click()
    page.get_by_label("Follow-up").check()
    assert page.evaluate("document.activeElement.value") == "follow_up", "the keyboard's place is kept"
    page.get_by_role("button", name="dermatofibroma", exact=True).click()
    page.wait_for_selector("text=Saved: Follow-up: dermatofibroma.")
    assert scan["verdicts"][0]["source"] == "follow_up"


def test_a_verdict_is_withdrawn(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector("text=Saved: Confirmed")
    page.get_by_role("button", name="Withdraw").click()
    page.wait_for_selector("text=No verdict yet.")
    page.wait_for_selector("text=The verdict was withdrawn.")
    assert scan["verdicts"][-1]["diagnosis"] is None
    until(page, "!document.querySelector('.row').textContent.includes('Confirmed')")


def test_another_clinician_was_faster(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    agent.judge(scan["scan_id"], "melanoma")
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector(".message[data-kind=failed]")
    said = page.inner_text(".message[data-kind=failed]")
    assert "Dr Berg was faster" in said
    assert "Judged: melanoma" in said
    assert "Judged: melanoma" in page.inner_text(".standing")
    until(page, "document.querySelector('.row').textContent.includes('Judged: melanoma')")
    assert page.evaluate("document.activeElement.dataset.focus") == "again"
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("text=Saved: Confirmed")
    assert [one["diagnosis"] for one in scan["verdicts"]] == ["melanoma", "melanocytic_nevus"]


def test_a_verdict_of_another_page_appears_by_itself(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    verdict = agent.judge(scan["scan_id"], "melanoma")
    agent.tell("verdict", {"scan_id": scan["scan_id"], "verdict": verdict})
    page.wait_for_selector("text=Dr Berg has just given a verdict on this scan.")
    assert "Judged: melanoma" in page.inner_text(".standing")
    until(page, "document.querySelector('.row').textContent.includes('Judged: melanoma')")


def test_a_refusal_takes_the_verdict_back_with_a_clear_word(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    agent.refuse_verdict = lambda _: problem(507, "full")
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector("text=Your verdict was not saved: the device's storage is full.")
    assert "No verdict yet." in page.inner_text(".scan-verdict")
    until(page, "!document.querySelector('.row').textContent.includes('Confirmed')")
    agent.refuse_verdict = lambda _: None
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("text=Saved: Confirmed")
    assert len(scan["verdicts"]) == 1


def test_a_verdict_whose_answer_was_lost_is_given_once(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    lost: list[str] = []

    def lose_the_first(route: Any) -> None:
        if not lost:
            lost.append(route.request.headers["idempotency-key"])
            route.fetch()  # the agent takes it
            route.abort()  # and nobody hears of it
        else:
            route.continue_()

    page.route("**/verdicts", lose_the_first)
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector("text=Saved: Confirmed")
    assert len(scan["verdicts"]) == 1
    assert {key for key, _ in agent.given} == set(lost)


def test_two_presses_are_one_verdict(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    page.locator("[data-focus=confirm]").dblclick()
    page.wait_for_selector("text=Saved: Confirmed")
    assert len(scan["verdicts"]) == 1


def test_a_busy_agent_is_asked_again(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page, scan = _open(agent, sign_in)
    refusals: list[Response] = [problem(503, "busy")]
    agent.refuse_verdict = lambda _: refusals.pop() if refusals else None
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector("text=Saved: Confirmed")
    assert len(scan["verdicts"]) == 1


def test_a_refused_capture_takes_a_finding(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.without_answer(1, reason="empty", sentence="The file is empty."), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.get_by_role("button", name="Enter a finding …").click()
    page.get_by_role("button", name="vascular lesion", exact=True).click()
    page.wait_for_selector("text=Saved: Judged: vascular lesion.")
    assert scan["verdicts"][0]["agrees"] is None


def test_ground_truth_from_the_cloud_is_part_of_the_history(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = scenes.answered(1)
    scan["ground_truths"] = [{"diagnosis": "melanoma", "received_at": scenes.moment(), "sent_at": None}]
    agent.add(scan, tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.locator("summary", has_text="History (1 entry)").click()
    page.wait_for_selector("text=From the cloud, histopathology: melanoma")
