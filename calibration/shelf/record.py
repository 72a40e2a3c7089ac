"""A dermoscope's record on the shelf: which profile is in use, which were before, and everything that was done."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final, Literal

from pydantic import AwareDatetime, ValidationError

from calibration.shelf.files import SEAL, ShelfError, as_text, read_json, seal_of
from calibration.shelf.profile import Identifier, Name, Part, Sha256

RECORD_NAME: Final = "record.json"
SCHEMA_VERSION: Final = 1


class What(str, Enum):
    """What was done."""

    FLAT_FIELD = "flat field"
    FITTED = "fitted"
    VERIFIED = "verified"
    ACTIVATED = "activated"
    ROLLED_BACK = "rolled back"


class Override(Part):
    """Who put a profile into use that had not passed, and why."""

    name: Name
    reason: Name


class Active(Part):
    """A profile in use."""

    profile_id: Identifier
    profile_sha256: Sha256
    activated_at: AwareDatetime
    operator: Name
    verification_id: Identifier | None = None
    """The verification that let it pass; None after an override without one."""
    override: Override | None = None
    commissioning: float
    """Mean CIEDE2000 that later shots are held against."""
    last_verified_at: AwareDatetime | None = None
    blocked_by: Identifier | None = None
    """The re-shot verification that found the colours too far off."""
    warning: str | None = None
    """What the last re-shot verification warned of, or why it blocked."""


class Event(Part):
    """A line of the history."""

    sequence: int
    at: AwareDatetime
    what: What
    operator: Name
    profile_id: Identifier | None = None
    verification_id: Identifier | None = None
    outcome: str | None = None
    mean: float | None = None
    """Mean CIEDE2000 of a fit (leave-one-out) or of a verification."""
    override: Override | None = None
    note: str | None = None


class Record(Part):
    """The whole document; one file, so that a change is there whole or not at all."""

    schema_version: Literal[1] = SCHEMA_VERSION
    sha256: str = ""
    dermoscope_id: Identifier
    active: Active | None = None
    previous: tuple[Active, ...] = ()
    """What was in use before, the latest last; a rollback takes it from there."""
    events: tuple[Event, ...] = ()

    def profile_ids(self) -> tuple[str, ...]:
        """Every profile that was fitted, the newest last."""
        return tuple(event.profile_id for event in self.events if event.what is What.FITTED and event.profile_id)

    def was_active(self, profile_id: str) -> bool:
        """Whether a profile was ever in use."""
        return any(
            event.profile_id == profile_id for event in self.events if event.what in {What.ACTIVATED, What.ROLLED_BACK}
        )

    def with_event(self, event: Event, **changes: object) -> Record:
        """The record after one more event."""
        numbered = event.model_copy(update={"sequence": len(self.events) + 1})
        return self.model_copy(update={"events": (*self.events, numbered), **changes})


def record_bytes(record: Record) -> bytes:
    """A record as its file, sealed."""
    content = record.model_dump(mode="json")
    content[SEAL] = seal_of(content)
    return as_text(content)


def load_record(path: Path, dermoscope_id: str) -> Record:
    """Read a record; an empty one where there is none yet.

    Raises:
        ShelfError: damaged, edited by hand, of another dermoscope.
    """
    remedy = f"put it aside (mv {path} {path}.damaged), then fit, verify and activate anew"
    try:
        content = read_json(path, "the calibration record", remedy)
    except ShelfError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Record(dermoscope_id=dermoscope_id)
        raise
    if content.get(SEAL) != seal_of(content):
        raise ShelfError(f"{path}: the calibration record was changed by hand and is not used; {remedy}.")
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        raise ShelfError(f"{path}: the calibration record is damaged or of newer software; {remedy}.") from error
    if record.dermoscope_id != dermoscope_id:
        raise ShelfError(f"{path}: is the record of the dermoscope {record.dermoscope_id}, copied here; {remedy}.")
    return record
