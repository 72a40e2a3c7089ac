"""What a calibration report tells, gathered from the shelf, and the verdict that stands on its first page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from calibration.correction.flatfield import GainMap
from calibration.shelf.files import sha256
from calibration.shelf.profile import Evidence, Profile, load_gain
from calibration.shelf.reading import Shelf
from calibration.shelf.record import Active, Event, Record, What
from calibration.shelf.verification import Verification

WORDS: Final = {
    "pass": "PASS",
    "marginal": "MARGINAL",
    "fail": "FAIL",
    "warn": "PASS, WARNED",
    "block": "BLOCKED",
}


@dataclass(frozen=True, eq=False)
class Content:
    """Everything a report tells."""

    profile: Profile
    verifications: tuple[Verification, ...]
    """Of this profile, the latest last."""
    use: Active | None
    """Where this profile is in use now."""
    events: tuple[Event, ...]
    """Of this profile."""
    pictures: tuple[tuple[Evidence, bytes | None], ...]
    """Of the fit and then of the last verification; None for one that is lost or was changed."""
    gain: GainMap | None
    written_at: datetime


def gather(shelf: Shelf, profile: Profile, now: datetime) -> Content:
    """Read what a report tells from the shelf; raises ShelfError."""
    dermoscope_id, profile_id = profile.dermoscope_id, profile.profile_id
    record: Record = shelf.record(dermoscope_id)
    events = tuple(event for event in record.events if event.profile_id == profile_id)
    verifications = tuple(
        shelf.verification(dermoscope_id, event.verification_id)
        for event in events
        if event.what is What.VERIFIED and event.verification_id
    )
    folder = shelf.profile_folder(dermoscope_id, profile_id)
    pictures = [(evidence, _kept(folder, evidence)) for evidence in profile.evidence]
    if verifications:
        last = verifications[-1]
        folder_of_last = shelf.verification_folder(dermoscope_id, last.verification_id)
        pictures += [(evidence, _kept(folder_of_last, evidence)) for evidence in last.evidence]
    use = record.active if record.active and record.active.profile_id == profile_id else None
    gain = load_gain(profile, folder)
    return Content(profile, verifications, use, events, tuple(pictures), gain, now)


def _kept(folder: Path, evidence: Evidence) -> bytes | None:
    path = folder / evidence.file
    data = path.read_bytes() if path.is_file() else None
    return data if data is not None and sha256(data) == evidence.sha256 else None


def stand(content: Content) -> tuple[str, str, str]:
    """The colour of the verdict, the verdict, and a line below it."""
    profile = content.profile
    last = content.verifications[-1] if content.verifications else None
    if content.use is not None and content.use.override is not None:
        return "fail", "OVERRIDE", "in use without a passing verification"
    if profile.outcome == "fail":
        return "fail", "FAIL", "the fit did not reach its limits"
    if last is None:
        return "marginal", "NOT VERIFIED", "a second shot is still to be taken"
    if last.passed and content.written_at >= profile.expires_at:
        return "fail", "EXPIRED", f"on {profile.expires_at:%d %B %Y}"
    outcome = last.verdict if last.verdict != "pass" else profile.outcome
    return outcome, WORDS[outcome], "in use" if content.use else "not in use"


def remark(event: Event) -> str:
    """What an event says beside its kind, in a line."""
    figure = f"mean {event.mean:.2f}" if event.mean is not None else ""
    override = f"override: {event.override.name}: {event.override.reason}" if event.override else ""
    outcome = WORDS.get(event.outcome or "", event.outcome or "").lower()
    return "; ".join(text for text in (outcome, figure, override, event.note or "") if text)
