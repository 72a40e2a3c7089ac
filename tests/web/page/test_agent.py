"""The page on a real agent: captures in a folder, the model's own answers, verdicts in the outbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import httpx
import numpy as np
import pytest

from agent.messages.catalogue import FEEDBACK
from agent.records.reading import list_outbox
from agent.web.models import ScanDetail, ScanSummary, Status, Verdict
from tests.web.page import scenes
from tests.web.page.waiting import until
from tests.web.serve import Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("page")) as running:
        assert running.daemon.wait_ready(30)
        yield running


def _signed_in(running: Served, open_page: Callable[..., Page], **settings: object) -> Page:
    page = open_page(running.address, **settings)
    page.context.set_default_timeout(20_000)
    page.goto(f"/#token={running.token(name='Dr Lind')}")
    page.wait_for_selector("#connection[data-state=live]")
    return page


def _verdicts_waiting(state_dir: Path) -> int:
    return len([row for row in list_outbox(state_dir, "waiting") if row.type == FEEDBACK.type])


def test_a_capture_appears_is_opened_confirmed_corrected_and_told_to_the_cloud(
    real: Served, open_page: Callable[..., Page]
) -> None:
    page = _signed_in(real, open_page)
    before = _verdicts_waiting(real.state_dir)
    real.drop("first.jpg", 11, about={"patient_id": "P-0011", "body_site": "left forearm", "age": 61})
    row = page.locator(".row", has_text="P-0011")
    row.wait_for()
    row.click()
    page.wait_for_selector(".pane.is-loaded .layer")
    assert page.locator(".scan-title").inner_text() == "Patient P-0011"
    assert "left forearm · 61 years" in page.inner_text(".scan-about")
    assert "Answered by a demonstration model: not for use with patients." in page.inner_text(".scan-warnings")
    assert "Colours are not calibrated for this dermoscope." in page.inner_text(".scan-warnings")
    assert page.locator(".class-bar").count() == 7
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector(".standing[data-pending=false]")
    page.wait_for_selector("text=Saved: Confirmed")
    assert "Dr Lind" in page.inner_text(".standing")
    assert _verdicts_waiting(real.state_dir) == before + 1
    page.locator("[data-focus=correct]").click()
    page.get_by_role("button", name="dermatofibroma", exact=True).click()
    page.wait_for_selector("text=Saved: Judged: dermatofibroma.")
    assert _verdicts_waiting(real.state_dir) == before + 2
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("text=Saved: Confirmed")
    page.get_by_role("button", name="Withdraw").click()
    page.wait_for_selector("text=The verdict was withdrawn.")
    assert _verdicts_waiting(real.state_dir) == before + 4
    page.reload()
    page.wait_for_selector("text=No verdict yet.")
    page.locator("summary", has_text="History (4 entries)").wait_for()


def test_two_clinicians_judge_at_once(real: Served, open_page: Callable[..., Page]) -> None:
    page = _signed_in(real, open_page)
    real.drop("both.jpg", 12, about={"patient_id": "P-0012"})
    page.locator(".row", has_text="P-0012").click()
    page.wait_for_selector("[data-focus=confirm]")
    scan_id = page.url.rsplit("/", 1)[1]

    judged: list[str] = []

    def be_faster(route: Route) -> None:
        if judged:
            return route.continue_()
        judged.append(scan_id)
        answer = httpx.post(
            f"{real.address}/api/v1/scans/{scan_id}/verdicts",
            json={"diagnosis": "vascular_lesion", "source": "clinician"},
            headers={"Authorization": f"Bearer {real.token(name='Dr Berg')}"},
            trust_env=False,
        )
        assert answer.status_code == 201
        return route.continue_()

    page.route("**/verdicts", be_faster)
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector(".message[data-kind=failed]")
    said = page.inner_text(".message[data-kind=failed]")
    assert "Dr Berg was faster" in said
    assert "Judged: vascular lesion" in said
    assert "Judged: vascular lesion" in page.inner_text(".standing")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("text=Saved: Confirmed")


def test_a_capture_of_twelve_megapixels(real: Served, open_page: Callable[..., Page]) -> None:
    page = _signed_in(real, open_page)
    real.drop("large.jpg", 13, 4000, 3000, about={"patient_id": "P-0013"})
    page.locator(".row", has_text="P-0013").click()
    page.wait_for_selector(".pane.is-loaded .layer")
    assert page.evaluate("document.querySelector('.picture').naturalWidth") <= 1600
    page.locator("summary", has_text="Model, software and picture").click()
    assert "4000 × 3000 pixels" in page.inner_text(".facts")
    files = page.locator(".files a")
    assert files.all_inner_texts()[2:] == ["Export: DICOM", "Export: FHIR", "Export: JSON"]
    for number in range(files.count()):
        answer = page.request.get(f"{real.address}{files.nth(number).get_attribute('href')}")
        assert answer.status == 200, (answer.url, answer.text())
    for _ in range(6):
        page.keyboard.press("+")
    until(page, "document.querySelector('.picture').naturalWidth === 4000", 20.0)


def test_a_rejected_capture_says_why_and_what_to_do(real: Served, open_page: Callable[..., Page]) -> None:
    page = _signed_in(real, open_page)
    page.locator("#language").select_option("de")
    cv2.imwrite(str(real.folder / "black.png"), np.zeros((768, 1024, 3), np.uint8))
    row = page.locator(".row[data-standing=rejected]").first
    row.wait_for()
    row.click()
    page.wait_for_selector(".rejected")
    assert "Das Bild ist schwarz. Nehmen Sie die Kappe ab" in page.inner_text(".rejected")
    page.wait_for_selector(".pane.is-loaded")  # black, as it was taken


def test_the_picture_is_gone(real: Served, open_page: Callable[..., Page]) -> None:
    page = _signed_in(real, open_page)
    file = real.drop("gone.jpg", 14, about={"patient_id": "P-0014"})
    row = page.locator(".row", has_text="P-0014")
    row.wait_for()
    until(page, "document.querySelector('.row').dataset.standing !== 'working'")
    file.unlink()
    row.click()
    page.wait_for_selector("text=The picture is no longer in the camera's folder.")
    assert page.locator(".class-bar").count() == 7


def test_the_agent_is_restarted_under_the_page(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    with serving(tmp_path) as running:
        assert running.daemon.wait_ready(30)
        page = _signed_in(running, open_page)
        running.drop("before.jpg", 21, about={"patient_id": "P-0021"})
        page.locator(".row", has_text="P-0021").click()
        page.wait_for_selector(".pane.is-loaded")
        port = int(running.address.rsplit(":", 1)[1])
    page.wait_for_selector("#connection[data-state=lost]")
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector(".standing[data-pending=true]")
    with serving(tmp_path, port=port) as running:
        page.wait_for_selector("#connection[data-state=live]")
        page.wait_for_selector("text=Saved: Confirmed")
        running.drop("after.jpg", 22, about={"patient_id": "P-0022"})
        page.locator(".row", has_text="P-0022").wait_for()
        assert _verdicts_waiting(running.state_dir) == 1
        page.context.close()


def test_the_device_panel_tells_of_a_real_device(real: Served, open_page: Callable[..., Page]) -> None:
    page = _signed_in(real, open_page)
    page.goto("/#/device")
    page.wait_for_selector(".card")
    said = page.inner_text(".device")
    for part in ("Ready.", "processor (CPU):", "No cloud is set up.", "scope-1 not calibrated", "demo/", "11.6%"):
        assert part in said, part


def test_an_answer_is_on_the_screen_soon_after_its_commit(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    committed: list[float] = []
    with serving(tmp_path, on_finished=lambda event: committed.append(event.committed)) as running:
        assert running.daemon.wait_ready(30)
        page = _signed_in(running, open_page)
        page.wait_for_selector("text=No scans yet today.")
        running.drop("now.jpg", 31, about={"patient_id": "P-0031"})
        page.wait_for_selector(".row:not([data-standing=working])")
        seen = time.monotonic()
        page.context.close()
    assert seen - committed[0] < 1.0, "benchmarks/page.py measures this; here it must only not be a poll"


def test_the_stand_in_speaks_as_the_agent_does() -> None:
    detail, refused, waiting = (
        scenes.answered(1),
        scenes.without_answer(2, reason="blank", sentence="No."),
        scenes.without_answer(3),
    )
    for scan in (detail, refused, waiting):
        assert set(scan) == set(ScanDetail.model_fields)
        ScanDetail.model_validate(scan)
        assert set(scenes.summary(scan)) == set(ScanSummary.model_fields)
    status = scenes.status()
    assert Status.model_validate(status).model_dump(mode="json").keys() == status.keys()
    for part in ("model", "captures", "counts", "outbox", "cloud", "disk"):
        assert set(status[part]) == set(Status.model_validate(status).model_dump()[part]), part
    from tests.web.page.stand_in import StandIn

    agent = StandIn()
    agent.scans = [detail]
    assert set(agent.judge(detail["scan_id"], "melanoma")) == set(Verdict.model_fields)
