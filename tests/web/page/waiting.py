"""Waiting for the page: its policy forbids eval, so Playwright's own ``wait_for_function`` cannot be used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def until(page: Page, condition: str, timeout_s: float = 8.0) -> None:
    """Wait until a JavaScript expression is true in the page; raises AssertionError."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(f"Boolean({condition})"):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {condition}"
        page.wait_for_timeout(15)
