"""``python -m tests.web.page.pictures DIR``: the screenshots of docs/page.md, taken of a real agent's page."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from agent.answer.heatmap import colour_table
from agent.carrying import Finished
from tests.web.serve import Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

VISIT: Final = (
    {"patient_id": "P-1042", "body_site": "upper back", "age": 58, "sex": "female", "skin_type": "II"},
    {"patient_id": "P-1042", "body_site": "left forearm", "age": 58, "sex": "female", "skin_type": "II"},
    {"patient_id": "P-0877", "body_site": "right calf", "age": 34, "sex": "male", "skin_type": "III"},
    {"patient_id": "P-1203", "body_site": "abdomen", "age": 47, "sex": "female", "skin_type": "IV"},
    {"patient_id": "P-1203", "body_site": "left temple", "age": 47, "sex": "female", "skin_type": "IV"},
    {"patient_id": "P-0913", "body_site": "chest", "age": 71, "sex": "male", "skin_type": "I"},
)
"""Made-up patients of the synthetic pictures."""
COLOURS: Final = 224
ATTENTION: Final = 32
"""Colours of the PNGs, and of the attention among them: a screenshot stays below 250 KB, and nobody sees it."""


def main() -> int:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    finished = threading.Semaphore(0)

    def note(_: Finished) -> None:
        finished.release()

    with tempfile.TemporaryDirectory() as name, serving(Path(name), on_finished=note) as served:
        assert served.daemon.wait_ready(60)
        _visit(served, finished)
        with sync_playwright() as driver:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
            page = browser.new_page(viewport={"width": 1280, "height": 860}, locale="en-GB")
            page.goto(f"{served.address}/#token={served.token(name='Dr Lind')}")
            _take(page, target)
            browser.close()
    return 0


def _visit(served: Served, finished: threading.Semaphore) -> None:
    for number, about in enumerate(VISIT):
        size = (640, 480) if number == 3 else (1600, 1200)
        served.drop(f"IMG_{number:04d}.jpg", 41 + number, *size, about=about)
        assert finished.acquire(timeout=30)
    (served.folder / "IMG_0100.json").write_text(json.dumps({"patient_id": "P-0913"}), encoding="utf-8")
    black = io.BytesIO()
    Image.new("RGB", (1600, 1200)).save(black, "JPEG")
    (served.folder / "IMG_0100.jpg").write_bytes(black.getvalue())
    assert finished.acquire(timeout=30)


def _take(page: Page, target: Path) -> None:
    page.wait_for_selector(".row:nth-of-type(7)")
    _open(page, "left forearm")
    page.locator("[data-focus=confirm]").click()
    page.wait_for_selector(".standing[data-pending=false]")
    page.keyboard.press("Escape")
    page.wait_for_selector(".overview")
    _keep(page, target / "page-list.png")
    suspicious = page.locator(".row[data-standing=suspicious]")
    _open(page, suspicious.first.locator(".row-site").inner_text() if suspicious.count() else "upper back")
    _keep(page, target / "page-scan.png")
    _open(page, "abdomen")
    _keep(page, target / "page-warning.png")
    page.goto(page.url.split("#", maxsplit=1)[0] + "#/device")
    page.wait_for_selector(".card")
    _keep(page, target / "page-device.png")


def _open(page: Page, site: str) -> None:
    page.locator(".row", has_text=site).click()
    page.wait_for_selector(f".scan-about:has-text('{site}')")
    page.wait_for_selector(".pane.is-loaded .layer")


def _keep(page: Page, path: Path) -> None:
    page.wait_for_timeout(300)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # The attention's colours are few pixels of a picture, and a palette made of its most frequent ones leaves them out.
    attention = colour_table()[:: 256 // ATTENTION].tobytes()
    palette = Image.new("P", (1, 1))
    palette.putpalette(bytes(shot.quantize(COLOURS).getpalette() or ())[: 3 * COLOURS] + attention)
    shot.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    sys.exit(main())
