"""The report: everything in one file, nothing from outside, and a verdict that cannot be misread."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from calibration.references import COLORCHECKER24
from calibration.shelf.files import sha256
from calibration.shelf.profile import Profile
from calibration.shelf.reading import Shelf
from calibration.shelf.record import Override
from calibration.shelf.verification import Verification
from calibration.shelf.writing import activate, put_profile, put_verification
from calibration.visit.report import render
from calibration.visit.report_content import gather
from tests.calibration.visiting import NOW, fitted, variant, verification_of, verified


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "calibration")


def page_of(
    shelf: Shelf,
    profile: Profile,
    *verifications: Verification,
    use: bool = False,
    override: Override | None = None,
    after_days: float = 1.0,
) -> str:
    put_profile(shelf, profile, fitted()[1])
    for verification in verifications:
        put_verification(shelf, verification, verified()[1])
    if use:
        activate(shelf, profile, "Ana Lopes", NOW, override)
    return render(gather(shelf, profile, NOW + timedelta(days=after_days)))


class Page(HTMLParser):
    """The page's text, its addresses, and whether its tags are closed in order."""

    VOID = frozenset({"meta", "img", "rect", "path", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_one_file_with_everything_in_it(shelf: Shelf) -> None:
    profile = fitted()[0]
    html = page_of(shelf, profile, verification_of(profile), use=True)
    page = Page(html)
    assert len(page.addresses) == 3, "two shots and the gain map"
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"https?://|@import|url\(", html)
    assert "script" not in page.tags
    for name in COLORCHECKER24.patch_names:
        assert name in page.text
    for told in (
        "Ana Lopes",
        "4711",
        "scope-1",
        profile.profile_id,
        profile.sha256,
        "01 December 2026, 09:00 UTC",
        "31 December 2026",
        "chart1.png (512×384)",
        "white0.png, white1.png",
        "the dermoscope's own light",
        f"{profile.leave_one_out.mean:.2f}",
        "technician: date, signature",
        "adjunct",
    ):
        assert told in page.text, told


def test_what_people_type_is_not_markup(shelf: Shelf) -> None:
    sly = variant(operator='<script>alert("x")</script> & Co', illuminant="<b>LED</b>")
    html = page_of(shelf, sly, verification_of(sly, operator="<i>Ben</i>"), use=True)
    page = Page(html)
    assert "script" not in page.tags
    assert '<script>alert("x")</script> & Co' in page.text
    assert "<i>Ben</i>" in page.text


def stamp(html: str) -> tuple[str, str]:
    found = re.search(r'class="stamp (\w+)"><b>([^<]+)<', html)
    assert found
    return found[1], found[2]


MAY = "Its profile may be used until 31 December 2026"


def test_a_verified_profile_passes(shelf: Shelf) -> None:
    profile = fitted()[0]
    html = page_of(shelf, profile, verification_of(profile))
    assert stamp(html) == ("pass", "PASS")
    assert "not in use" in Page(html).text
    assert MAY in Page(html).text


def test_a_profile_that_is_not_verified_says_so(shelf: Shelf) -> None:
    html = page_of(shelf, fitted()[0])
    assert stamp(html) == ("marginal", "NOT VERIFIED")
    assert MAY not in Page(html).text


def test_a_marginal_fit_stays_marginal(shelf: Shelf) -> None:
    profile = variant(outcome="marginal", reasons=("The colours are 4.0 off on average.",))
    html = page_of(shelf, profile, verification_of(profile))
    assert stamp(html) == ("marginal", "MARGINAL")
    assert "4.0 off on average" in html


def test_a_failed_fit_fails_whatever_follows(shelf: Shelf) -> None:
    profile = variant(outcome="fail", reasons=("Over-exposed: white.",))
    html = page_of(shelf, profile, verification_of(profile))
    assert stamp(html) == ("fail", "FAIL")
    assert "Over-exposed: white." in html
    assert MAY not in Page(html).text


def test_a_blocked_verification_is_on_the_first_page(shelf: Shelf) -> None:
    profile = fitted()[0]
    shown = verification_of(profile, verdict="block", reasons=("6.0 more than at commissioning",), commissioning=0.5)
    html = page_of(shelf, profile, verification_of(profile), shown)
    assert stamp(html) == ("block", "BLOCKED")
    assert "6.0 more than at commissioning" in html
    assert MAY not in Page(html).text


def test_an_override_cannot_be_overlooked(shelf: Shelf) -> None:
    html = page_of(
        shelf, fitted()[0], use=True, override=Override(name="Dr Okafor", reason="no chart until Monday <really>")
    )
    assert stamp(html) == ("fail", "OVERRIDE")
    assert "Dr Okafor answers for it" in html
    assert "no chart until Monday &lt;really&gt;" in html
    assert MAY not in Page(html).text


def test_an_expired_profile_says_so(shelf: Shelf) -> None:
    profile = fitted()[0]
    html = page_of(shelf, profile, verification_of(profile), use=True, after_days=30.0)
    assert stamp(html) == ("fail", "EXPIRED")
    assert MAY not in Page(html).text


def test_a_picture_that_was_exchanged_is_not_shown(shelf: Shelf) -> None:
    profile = fitted()[0]
    page_of(shelf, profile, verification_of(profile))
    evidence = profile.evidence[0]
    path = shelf.profile_folder("scope-1", profile.profile_id) / evidence.file
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    assert sha256(path.read_bytes()) != evidence.sha256
    page = Page(render(gather(shelf, profile, NOW)))
    assert "(lost, or changed since)" in page.text
    assert len(page.addresses) == 2


def test_without_a_flat_field(shelf: Shelf) -> None:
    assert "No flat field was taken" in page_of(shelf, variant(flat_field=None))


def test_it_prints_on_a_few_pages(shelf: Shelf, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here to print with")
    profile = fitted()[0]
    (tmp_path / "report.html").write_text(page_of(shelf, profile, verification_of(profile), use=True))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    out = tmp_path / "report.pdf"
    words = [*command, f"--print-to-pdf={out}", (tmp_path / "report.html").as_uri()]
    try:
        subprocess.run(words, check=True, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium did not start within 20 s on this busy machine")
    pages = re.findall(rb"/Type\s*/Page\b", out.read_bytes())
    assert 2 <= len(pages) <= 4
