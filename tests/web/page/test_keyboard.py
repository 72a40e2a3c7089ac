"""Everything by the keyboard alone; the focus is always seen and never lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.web.page import scenes
from tests.web.page.stand_in import TOKEN, StandIn
from tests.web.page.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOCUS = "document.activeElement"


def _focus(page: Page) -> str:
    return str(page.evaluate(f"{FOCUS}.dataset.focus ?? {FOCUS}.id"))


def test_from_signing_in_to_a_correction_without_a_mouse(agent: StandIn, open_page: Callable[..., Page]) -> None:
    for seq in range(1, 6):
        agent.add(scenes.answered(seq, patient=f"P-{seq}"), tell=False)
    page = open_page(agent.url)
    page.goto("/")
    page.wait_for_selector("#token")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(".row")
    until(page, f"{FOCUS}.id === 'rows'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    until(page, "document.querySelector('.row.is-active')?.textContent.includes('P-3')")
    assert page.evaluate("document.getElementById('rows').getAttribute('aria-activedescendant')").startswith("row-")
    page.keyboard.press("Enter")
    page.wait_for_selector(".is-loaded")
    assert page.locator(".scan-title").inner_text() == "Patient P-3"
    until(page, f"{FOCUS}.classList.contains('scan-title')")
    page.keyboard.press("x")
    until(page, f"{FOCUS}.dataset.focus === 'class-melanoma'")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Saved: Judged: melanoma.")
    until(page, f"document.querySelector('.scan-verdict').contains({FOCUS})")
    page.keyboard.press("u")
    page.wait_for_selector("text=The verdict was withdrawn.")
    page.keyboard.press("c")
    assert _focus(page) == "confirm"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Saved: Confirmed")
    page.keyboard.press("Escape")
    until(page, f"{FOCUS}.id === 'rows'")
    assert "P-3" in page.inner_text(".row.is-active"), "back where one was"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Patient P-5")


def test_next_and_previous_scan_and_the_ends_of_the_list(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    for seq in range(1, 4):
        agent.add(scenes.answered(seq, patient=f"P-{seq}"), tell=False)
    page = sign_in(f"#/scan/{agent.scans[-1]['scan_id']}")
    page.wait_for_selector("text=Patient P-3")
    page.keyboard.press("j")
    page.wait_for_selector("text=Patient P-2")
    page.keyboard.press("k")
    page.wait_for_selector("text=Patient P-3")
    page.keyboard.press("k")
    until(page, "document.getElementById('announcer').textContent === 'This is the newest scan.'")


def test_escape_first_closes_what_was_begun(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector("[data-focus=histopathology]")
    page.keyboard.press("h")
    page.wait_for_selector(".chooser")
    page.get_by_label("Note").fill("a b c j x d ?")
    assert page.locator("dialog[open]").count() == 0, "letters in a note are letters"
    page.keyboard.press("Escape")
    assert page.locator(".chooser").count() == 0
    assert _focus(page) == "histopathology"
    assert page.locator(".scan-title").count() == 1


def test_the_keys_are_listed_and_can_be_switched_off(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    agent.add(scenes.answered(1), tell=False)
    page = sign_in()
    page.locator("#rows").focus()
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    assert page.locator("dialog kbd").count() > 15
    page.get_by_label("Use single keys").uncheck()
    page.keyboard.press("Escape")
    until(page, f"{FOCUS}.id === 'rows'")
    page.keyboard.press("d")
    page.wait_for_timeout(100)
    assert page.locator(".device").count() == 0
    page.reload()
    page.wait_for_selector(".row")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    assert not page.get_by_label("Use single keys").is_checked()
    page.get_by_label("Use single keys").check()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    page.wait_for_selector(".device")


def test_every_place_that_tab_reaches_shows_that_it_has_the_focus(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1), tell=False)
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".is-loaded")
    page.locator("#skip").focus()
    page.keyboard.press("Shift+Tab")
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, width = page.evaluate(
            f"""() => {{
              const one = {FOCUS};
              const ring = one.id === "rows" ? one.querySelector(".is-active") : one;
              return [one.dataset.focus ?? one.id ?? one.tagName, parseFloat(getComputedStyle(ring).outlineWidth)];
            }}"""
        )
        if name in reached or page.evaluate(f"{FOCUS} === document.body"):
            break
        reached.append(name)
        assert width >= 2, f"{name} has the focus and does not show it"
    for wanted in (
        "skip",
        "device",
        "language",
        "rows",
        "pane",
        "zoom-in",
        "attention",
        "opacity",
        "confirm",
        "origin",
    ):
        assert wanted in reached, (wanted, reached)


def test_the_language_changes_under_the_keyboard(agent: StandIn, sign_in: Callable[..., Page]) -> None:
    scan = agent.add(scenes.answered(1, risk=0.4, warnings=("The picture is dark; more light may change the answer.",)))
    page = sign_in(f"#/scan/{scan['scan_id']}")
    page.wait_for_selector(".is-loaded")
    page.locator("#language").focus()
    page.locator("#language").select_option("de")
    page.wait_for_selector("h3:text-is('Verdacht auf Melanom')")
    assert _focus(page) == "language"
    assert page.evaluate("document.documentElement.lang") == "de"
    said = page.inner_text("body")
    for part in (
        "Das Bild ist dunkel; mehr Licht kann das Ergebnis ändern.",
        "Melanomrisiko 40\u00a0%, auf oder über der Schwelle von 12\u00a0%.",
        "dringend zur fachärztlichen Abklärung überweisen",
        "Bestätigen: melanozytärer Nävus",
        "Hilfsmittel für geschultes Fachpersonal: ein Vorschlag, keine Diagnose.",
        "Aufnahmen",
    ):
        assert part in said, part
    assert page.locator(".layer").count() == 1, "the picture stays as it was"
    page.reload()
    page.wait_for_selector("h3:text-is('Verdacht auf Melanom')")
    page.locator("#language").select_option("en")
    page.wait_for_selector("h3:text-is('Suspicious for melanoma')")
