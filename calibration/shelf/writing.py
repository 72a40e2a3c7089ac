"""What the commands write on the shelf: flat fields, profiles, verifications, and which profile is in use."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from calibration.correction.flatfield import GainMap
from calibration.shelf.files import (
    SEAL,
    ShelfError,
    as_text,
    locked,
    make_folder,
    seal_of,
    sync_folder,
    write_atomically,
)
from calibration.shelf.profile import PROFILE_NAME, FlatField, Profile, ProfileError, encode_gain, profile_bytes
from calibration.shelf.reading import FLAT_FIELD_NAME, VERIFICATION_NAME, Shelf
from calibration.shelf.record import RECORD_NAME, Active, Event, Override, Record, What, record_bytes
from calibration.shelf.verification import Verification, verification_bytes


class NotVerified(ShelfError):
    """The profile has no passing verification: one sentence that says what to do."""


class ProfileStale(ShelfError):
    """The profile is too old: one sentence that says what to do."""


def new_event(what: What, at: datetime, operator: str, **fields: object) -> Event:
    """An event before it has its number."""
    return Event.model_validate({"sequence": 0, "at": at, "what": what, "operator": operator, **fields})


def put_flat_field(shelf: Shelf, dermoscope_id: str, flat: FlatField, gain: GainMap, operator: str) -> None:
    """Keep a flat field for the fits that follow. Raises OSError, ShelfError."""
    with locked(shelf.place(dermoscope_id)):
        record = shelf.record(dermoscope_id)
        folder = shelf.flat_field_folder(dermoscope_id)
        make_folder(folder)
        write_atomically(folder / flat.file, encode_gain(gain))
        content = flat.model_dump(mode="json")
        write_atomically(folder / FLAT_FIELD_NAME, as_text({"flat_field": content, SEAL: seal_of(content)}))
        note = f"{len(flat.frames)} white frames, gain {flat.lowest:.2f} to {flat.highest:.2f}"
        _write(shelf, record.with_event(new_event(What.FLAT_FIELD, flat.made_at, operator, note=note)))


def put_profile(shelf: Shelf, profile: Profile, files: Mapping[str, bytes]) -> None:
    """Put a sealed profile with its gain map and pictures on the shelf. Raises OSError, ShelfError."""
    with locked(shelf.place(profile.dermoscope_id)):
        record = shelf.record(profile.dermoscope_id)
        target = shelf.profile_folder(profile.dermoscope_id, profile.profile_id)
        _put_folder(target, {**files, PROFILE_NAME: profile_bytes(profile)})
        event = new_event(
            What.FITTED,
            profile.created_at,
            profile.operator,
            profile_id=profile.profile_id,
            outcome=profile.outcome,
            mean=profile.leave_one_out.mean,
        )
        _write(shelf, record.with_event(event))


def put_verification(shelf: Shelf, verification: Verification, files: Mapping[str, bytes]) -> None:
    """Put a sealed verification on the shelf; one of the profile in use changes its standing. As ``put_profile``."""
    dermoscope_id = verification.dermoscope_id
    with locked(shelf.place(dermoscope_id)):
        record = shelf.record(dermoscope_id)
        target = shelf.verification_folder(dermoscope_id, verification.verification_id)
        _put_folder(target, {**files, VERIFICATION_NAME: verification_bytes(verification)})
        use = record.active
        if use is not None and use.profile_id == verification.profile_id:
            use = use.model_copy(
                update={
                    "last_verified_at": verification.made_at,
                    "blocked_by": None if verification.passed else verification.verification_id,
                    "warning": " ".join(verification.reasons) or None,
                }
            )
        event = new_event(
            What.VERIFIED,
            verification.made_at,
            verification.operator,
            profile_id=verification.profile_id,
            verification_id=verification.verification_id,
            outcome=verification.verdict,
            mean=verification.after.mean,
        )
        _write(shelf, record.with_event(event, active=use))


def activate(shelf: Shelf, profile: Profile, operator: str, now: datetime, override: Override | None = None) -> Active:
    """Put a profile into use, after a passing verification or with an override, which is recorded.

    Raises:
        NotVerified: no verification that passed, and no override.
        ProfileStale: it has expired; no override helps.
        ShelfError: the shelf cannot be used.
    """
    with locked(shelf.place(profile.dermoscope_id)):
        record = shelf.record(profile.dermoscope_id)
        if now >= profile.expires_at:
            raise ProfileStale(
                f"{profile.profile_id} expired on {profile.expires_at:%d %B %Y}: fit a new profile (dermascan "
                "calibrate fit)."
            )
        shelf.corrector(profile)  # what cannot be read must not be put into use
        last = shelf.last_verification(record, profile.profile_id)
        passing = last is not None and last.passed and profile.outcome != "fail"
        if override is None and profile.outcome == "fail":
            raise NotVerified(f"{profile.profile_id} failed its own fit: fit again. {' '.join(profile.reasons)}")
        if override is None and last is None:
            raise NotVerified(
                f"{profile.profile_id} was not verified yet: take a second shot of the chart, run dermascan calibrate "
                "verify SHOT, then activate."
            )
        if override is None and last is not None and not passing:
            raise NotVerified(f"{profile.profile_id} did not pass its verification. {' '.join(last.reasons)}")
        use = Active(
            profile_id=profile.profile_id,
            profile_sha256=profile.sha256,
            activated_at=now,
            operator=operator,
            verification_id=last.verification_id if last else None,
            override=override if not passing else None,
            commissioning=last.after.mean if last and passing else profile.in_sample.mean,
            last_verified_at=last.made_at if last else None,
            warning=(" ".join(last.reasons) or None) if last and passing else None,
        )
        kept = tuple(use for use in (*record.previous, record.active) if use is not None)
        event = new_event(
            What.ACTIVATED,
            now,
            operator,
            profile_id=profile.profile_id,
            verification_id=use.verification_id,
            override=use.override,
        )
        _write(shelf, record.with_event(event, active=use, previous=kept))
        return use


def rollback(shelf: Shelf, dermoscope_id: str, operator: str, now: datetime, reason: str | None = None) -> Active:
    """Go back to the profile that was in use before the present one.

    Raises:
        ShelfError: there is none, or it cannot be used any more.
    """
    with locked(shelf.place(dermoscope_id)):
        record = shelf.record(dermoscope_id)
        current = record.active.profile_id if record.active else None
        places = [number for number, use in enumerate(record.previous) if use.profile_id != current]
        if not places:
            raise ShelfError(
                f"{dermoscope_id} has no earlier profile to go back to; fit a new one (dermascan calibrate fit)."
            )
        use = record.previous[places[-1]]
        profile = shelf.profile(dermoscope_id, use.profile_id)
        if profile.sha256 != use.profile_sha256:
            raise ProfileError(f"{use.profile_id} is not what was activated then; fit a new profile instead.")
        shelf.corrector(profile)
        event = new_event(What.ROLLED_BACK, now, operator, profile_id=use.profile_id, note=reason)
        _write(shelf, record.with_event(event, active=use, previous=record.previous[: places[-1]]))
        return use


def _write(shelf: Shelf, record: Record) -> None:
    write_atomically(shelf.place(record.dermoscope_id) / RECORD_NAME, record_bytes(record))


def _put_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """A folder of files, there whole or not at all; one of the same id holds the same and is left alone."""
    if target.exists():
        return
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    for name, data in files.items():
        write_atomically(temporary / name, data)
    temporary.replace(target)
    sync_folder(target.parent)
