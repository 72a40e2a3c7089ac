"""What the agent says reaches a German reader in German, figures and dates included."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.answer import quality, texts
from agent.answer.scan import CalibrationState
from agent.intake import colours, decode, dicom
from agent.intake.reasons import SENTENCES, Reason, Rejection
from agent.intake.sidecar import parse_sidecar
from agent.standards.folder import ExportState
from agent.web import status as device
from agent.web.models import CalibrationInfo, DermoscopeInfo, DiskInfo
from agent.web.status import NO_CLOUD
from calibration import drift
from calibration.shelf.standing import judge_standing
from tests.web.page.stand_in import StandIn

if TYPE_CHECKING:
    from playwright.sync_api import Page

TRANSLATE = """async (said) => {
  const texts = await import("/page/texts.js");
  return said.map((one) => texts.sentence(one));
}"""


def _blank(brightness: float, contrast: float) -> str:
    with pytest.raises(Rejection) as refused:
        quality._refuse_blank(brightness, contrast, 0.0)
    return refused.value.sentence


def _filled() -> dict[str, str]:
    parts: dict[Reason, dict[str, object]] = {
        Reason.TOO_MANY_BYTES: {"size": 90, "limit": 64},
        Reason.TOO_MANY_PIXELS: {"width": 9000, "height": 9000, "limit": 25},
        Reason.UNSUPPORTED: {"kind": "JPEG, 12 bits"},
        Reason.SEVERAL_PICTURES: {"count": 3},
        Reason.NOT_A_FILE: {"kind": "a folder"},
        Reason.CRASHED_ANALYSIS: {"times": 3},
        Reason.ENGINE_FAILED: {"times": 3},
        Reason.NOT_CALIBRATED: {"why": f"{texts.NOT_CALIBRATED} {texts.PATIENTS_DIFFER}"},
    }
    return {reason.value: sentence.format(**parts.get(reason, {})) for reason, sentence in SENTENCES.items()}


def _everything() -> list[str]:
    shift = drift.Shift(light=4.25, light_limit=2.0, skin=3.1, skin_limit=2.0)
    modules = (colours, decode, dicom)
    notes = [value for module in modules for name, value in vars(module).items() if _is_note(name, value)]
    return [
        *(value for name, value in vars(texts).items() if name.isupper() and isinstance(value, str)),
        texts.late(4.25, 3.0),
        texts.other_shape((768, 1024), (1200, 1600)),
        *quality._warnings((640, 480), 0.2, 5.0, 0.31, 0.7),
        *quality._warnings((1024, 768), 0.95, 50.0, 0.0, 0.0),
        _blank(0.01, 50.0),
        _blank(0.99, 50.0),
        _blank(0.5, 0.5),
        *_filled().values(),
        *notes,
        *colours._KINDS.values(),
        str(parse_sidecar(b"[]", "lesion.json").warning),
        str(parse_sidecar(b'{"age": "old", "phone": 1}', "lesion.json").warning),
        str(parse_sidecar(b'{"age": "old"}', "lesion.json").warning),
        str(parse_sidecar(b'{"phone": 1}', "lesion.json").warning),
        shift.sentence,
        NO_CLOUD,
        *_of_the_device(),
    ]


def _of_the_device() -> list[str]:
    lost = DermoscopeInfo(
        id="scope-1",
        folder_ok=False,
        calibration=CalibrationInfo(state=CalibrationState.NONE, profile_id=None, age_days=None, warnings=[]),
    )
    folder = ExportState(trouble="/mnt/share is not there", given_up=2)
    agent = SimpleNamespace(
        setting=lambda: SimpleNamespace(ladder=SimpleNamespace(ready=False)), warnings=lambda: folder.warnings
    )
    disk = DiskInfo(free_mb=0, quota_mb=1, used_mb=1, full=True)
    return device._warnings(cast("Any", agent), [lost], disk, dead=2, trusted=False)


def _is_note(name: str, value: object) -> bool:
    whole = (isinstance(value, str) and value.startswith("The ")) or name == "_LOWER_PART"
    return name.strip("_").isupper() and whole


@pytest.fixture
def german(agent: StandIn, open_page: Callable[..., Page]) -> Callable[[list[str]], list[dict[str, str]]]:
    page = open_page(agent.url, locale="de-DE")
    page.goto("/")
    page.wait_for_selector("#token")

    def translate(said: list[str]) -> list[dict[str, str]]:
        found: list[dict[str, str]] = page.evaluate(TRANSLATE, said)
        return found

    return translate


def test_every_sentence_that_a_clinician_may_read_has_its_german(
    german: Callable[[list[str]], list[dict[str, str]]],
) -> None:
    said = _everything()
    assert len(said) > 50
    found = german(said)
    assert not [one for one, given in zip(said, found, strict=True) if given["lang"] != "de" or "{" in given["text"]]


def test_figures_and_dates_are_written_as_germans_write_them(
    german: Callable[[list[str]], list[dict[str, str]]],
) -> None:
    expired = "The colour profile P-1 expired on 03 March 2026: ask for a calibration (dermascan calibrate)."
    found = [
        one["text"]
        for one in german([texts.late(4.25, 3.0), expired, *quality._warnings((1024, 768), 0.5, 50, 0.31, 0)])
    ]
    assert found[0] == "Diese Auswertung dauerte 4,2 s, länger als die erlaubten 3,0 s."
    assert "am 3. März 2026 abgelaufen" in found[1]
    assert found[2].startswith("31\u00a0% des sichtbaren Feldes")


def test_what_a_profile_is_worth_is_said_in_german(german: Callable[[list[str]], list[dict[str, str]]]) -> None:
    now = datetime(2026, 3, 3, tzinfo=timezone.utc)
    profile = SimpleNamespace(
        profile_id="P-1", created_at=now - timedelta(days=40), expires_at=now - timedelta(days=10)
    )
    use = SimpleNamespace(
        activated_at=now - timedelta(days=39),
        last_verified_at=None,
        blocked_by="mean error 4.2",
        warning=None,
        override=SimpleNamespace(name="K. Ito", reason="the chart is on its way"),
    )
    said = [
        sentence
        for trusted in (True, False)
        for sentence in judge_standing(cast("Any", profile), cast("Any", use), now, trusted=trusted).sentences
    ]
    assert len(said) == 6
    assert [one["lang"] for one in german(said)] == ["de"] * 6


def test_what_nobody_translated_stays_english_and_says_so(
    german: Callable[[list[str]], list[dict[str, str]]],
) -> None:
    assert german(["Something quite new."]) == [{"text": "Something quite new.", "lang": "en"}]
