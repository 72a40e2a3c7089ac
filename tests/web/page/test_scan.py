"""The view of one scan: warnings first, picture and attention, scale, classes, words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from agent.answer import texts
from agent.answer.scan import CalibrationState, PassedOver
from tests.web.page import scenes
from tests.web.page.stand_in import StandIn
from tests.web.page.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

BLURRED = "The picture looks blurred; focus and take it again if you can."


def _box(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).first.bounding_box()
    assert found is not None, selector
    return {"x": found["x"], "y": found["y"], "width": found["width"], "height": found["height"]}


def test_warnings_stand_before_picture_and_result(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(
        scenes.answered(
            1,
            warnings=(BLURRED, texts.NOT_CALIBRATED, texts.late(4.2, 3.0)),
            calibration=CalibrationState.NONE,
            model="demo/1.0.0",
        ),
        tell=False,
    )
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".scan-warnings li")
    warnings = page.locator(".scan-warnings li").all_inner_texts()
    assert warnings == [
        "Answered by a demonstration model: not for use with patients.",
        BLURRED,
        texts.NOT_CALIBRATED,
        texts.late(4.2, 3.0),
    ]
    for later in (".scan-picture", ".scan-result"):
        assert _box(page, ".scan-warnings")["y"] < _box(page, later)["y"]
    order = page.evaluate(
        "document.querySelector('.scan-warnings').compareDocumentPosition(document.querySelector('.scan-result'))"
    )
    assert order == 4, "and a screen reader comes by them first"


def test_the_threshold_is_drawn_on_the_scale_and_named(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1, risk=0.25), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".scale")
    assert page.locator(".scale-named").inner_text() == "Operating threshold 12%"
    assert page.locator(".scale-risk").inner_text() == "Risk 25%"
    bar, pin, line = (_box(page, f".scale-{part}") for part in ("bar", "pin", "threshold"))
    share = (pin["x"] + pin["width"] / 2 - bar["x"]) / bar["width"]
    assert share == pytest.approx(0.25**0.5, abs=0.01)
    assert (line["x"] + line["width"] / 2 - bar["x"]) / bar["width"] == pytest.approx(scenes.THRESHOLD**0.5, abs=0.01)
    assert "melanoma risk 25%" in str(page.locator(".scale").get_attribute("aria-label"))


def test_seven_classes_have_bars_and_figures(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1, risk=0.02), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".class-bar")
    assert page.locator(".class-bar").count() == 7
    assert page.locator(".class-bar").first.inner_text().startswith("melanocytic naevus")
    shares = scan["answer"]["diagnosis"]["all_classes"]
    widths = page.evaluate(
        "[...document.querySelectorAll('.class-bar')].map((row) => [row.dataset.name, "
        "row.querySelector('.bar-fill').offsetWidth / row.querySelector('.bar-track').offsetWidth])"
    )
    for name, share in widths:
        assert share == pytest.approx(shares[name], abs=0.02)
    assert texts.ROUTINE in page.inner_text(".scan-result")


def test_the_attention_layer_lies_over_the_centre_square_and_obeys(
    agent: StandIn, sign_in: Callable[..., Page]
) -> None:
    scan = agent.add(scenes.answered(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".pane.is-loaded .layer")
    pane, layer = _box(page, ".pane"), _box(page, ".layer")
    assert layer["height"] == pytest.approx(pane["height"], abs=1)
    assert layer["width"] == pytest.approx(layer["height"], abs=1)
    assert layer["x"] - pane["x"] == pytest.approx((pane["width"] - layer["width"]) / 2, abs=1)
    opaque = page.evaluate(
        """() => {
          const layer = document.querySelector(".layer");
          const data = layer.getContext("2d").getImageData(0, 0, layer.width, layer.height).data;
          const alpha = data.filter((_, index) => index % 4 === 3);
          return [Math.min(...alpha), Math.max(...alpha)];
        }"""
    )
    assert opaque[0] < 40, "where the model did not look, the skin stays seen"
    assert opaque[1] == 255
    page.get_by_label("Opacity").fill("30")
    assert page.evaluate("document.querySelector('.layer').style.opacity") == "0.3"
    page.get_by_role("button", name="Attention").click()
    assert page.locator(".layer").count() == 0
    assert page.get_by_role("button", name="Attention").get_attribute("aria-pressed") == "false"
    assert not page.locator(".legend").is_visible()


def test_side_by_side_shows_the_unmodified_picture_beside_the_layer(
    agent: StandIn, sign_in: Callable[..., Page]
) -> None:
    scan = agent.add(scenes.answered(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".pane.is-loaded .layer")
    page.get_by_role("button", name="Side by side").click()
    until(page, "document.querySelectorAll('.pane.is-loaded').length === 2")
    assert page.locator(".pane").first.locator(".layer").count() == 0
    assert page.locator(".pane").last.locator(".layer").count() == 1
    first, second = (page.locator(".pane").nth(index).bounding_box() for index in (0, 1))
    assert first
    assert second
    assert second["x"] >= first["x"] + first["width"]
    page.get_by_role("button", name="Larger").click()
    styles = page.evaluate("[...document.querySelectorAll('.stage')].map((stage) => stage.style.transform)")
    assert styles[0] == styles[1] != ""


def test_zoom_by_wheel_buttons_keys_and_pinch_and_moving_it(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}", has_touch=True)
    page.wait_for_selector(".pane.is-loaded")
    shown = page.locator(".zoom-shown")
    box = _box(page, ".pane")
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    until(page, "document.querySelector('.zoom-shown').textContent !== '1.0×'")
    page.keyboard.press("0")
    assert shown.inner_text() == "1.0×"
    page.get_by_role("button", name="Larger").click()
    assert shown.inner_text() == "1.4×"
    page.locator(".pane").focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    before = page.evaluate("document.querySelector('.stage').style.transform")
    page.keyboard.press("ArrowRight")
    moved = page.evaluate("document.querySelector('.stage').style.transform")
    assert moved != before
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 50, middle[1] + 30)
    page.mouse.up()
    assert page.evaluate("document.querySelector('.stage').style.transform") != moved
    page.keyboard.press("0")
    pinch = page.context.new_cdp_session(page)
    points = [[{"x": middle[0] - gap, "y": middle[1]}, {"x": middle[0] + gap, "y": middle[1]}] for gap in (30, 60, 120)]
    pinch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points[0]})
    for fingers in points[1:]:
        pinch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers})
    pinch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(page, "parseFloat(document.querySelector('.zoom-shown').textContent) > 2.5")


def test_a_large_picture_is_loaded_finer_once_it_is_zoomed_into(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1, size=(4000, 3000)), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".pane.is-loaded", timeout=20_000)
    assert page.evaluate("document.querySelector('.picture').naturalWidth") == 1600
    page.keyboard.press("+")
    until(page, "document.querySelector('.zoom-shown').textContent === '1.4×'")
    for _ in range(5):
        page.keyboard.press("+")
    until(page, "document.querySelector('.picture').naturalWidth === 4000", 20.0)


def test_a_rejected_capture_says_why_and_what_to_do(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    why = "The picture is black. Take the cap off, switch the dermoscope's light on and take it again."
    scan = agent.add(scenes.without_answer(1, reason="blank", sentence=why), tell=False)
    page = sign_in()
    assert "Could not be answered" in page.inner_text(".row")
    page.locator(".row").click()
    page.wait_for_selector(".rejected")
    assert page.locator(".rejected-why").inner_text() == why
    assert "without the device" in page.inner_text(".rejected")
    page.wait_for_selector("text=This picture cannot be shown.")
    assert page.locator("[data-focus=confirm]").count() == 0, "there is no suggestion to confirm"
    assert page.url.endswith(scan["scan_id"])


def test_a_scan_in_work_becomes_an_answer_under_the_readers_eyes(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.without_answer(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".working")
    agent.add(scenes.answered(1, risk=0.4))
    page.wait_for_selector(".verdict-line[data-standing=suspicious]")


def test_where_it_comes_from(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(
        scenes.answered(1, passed_over=(PassedOver(backend="tensorrt", reason="the driver is missing"),)), tell=False
    )
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.locator("summary", has_text="Model, software and picture").click()
    facts = page.inner_text(".facts")
    for part in ("clinic-vit/2.1.0", "0.1.0", "processor (CPU), in 412 ms", "the driver is missing", scan["scan_id"]):
        assert part in facts
    assert "1024 × 768 pixels" in facts


def test_an_unknown_scan_is_said_to_be_unknown(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    page = sign_in("#/scan/nobody")
    page.wait_for_selector("text=The device does not know this scan.")
    page.get_by_role("button", name="Back to the list").click()
    page.wait_for_selector("text=No scan to show yet")


def test_a_technician_sees_no_patient_and_gives_no_verdict(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    agent.role = "technician"
    scan = scenes.answered(1, patient=None, site=None)
    scan["metadata"] = {}
    scan["links"] = dict.fromkeys(scan["links"])
    agent.add(scan, tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector("text=Your role may not give verdicts.")
    page.wait_for_selector("text=Pictures are not shown in your role.")
    assert page.locator("[data-focus=confirm]").count() == 0
