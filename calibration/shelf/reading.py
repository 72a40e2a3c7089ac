"""The shelf: every dermoscope's profiles and their history under ``state_dir/calibration``, as files alone.

Commands write under a lock, each change by one rename; the agent only reads, and takes a change on its next capture.

    <dermoscope>/record.json                      what is in use, what was, the history
    <dermoscope>/profiles/<id>/profile.json       with gain.npy and the pictures for the report
    <dermoscope>/verifications/<id>/verification.json
    <dermoscope>/flatfield/flatfield.json         the last flat field, for the fits that follow
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Final

from calibration.correction.apply import Corrector
from calibration.correction.flatfield import GainMap
from calibration.shelf.files import SEAL, ShelfError, read_json, seal_of
from calibration.shelf.profile import PROFILE_NAME, FlatField, Profile, ProfileError, load_gain, load_profile, read_gain
from calibration.shelf.record import RECORD_NAME, Record, What, load_record
from calibration.shelf.standing import ActiveProfile, Standing, State
from calibration.shelf.verification import Verification, load_verification

FOLDER: Final = "calibration"
"""Under ``state_dir``."""
VERIFICATION_NAME: Final = "verification.json"
FLAT_FIELD_NAME: Final = "flatfield.json"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Shelf:
    """The shelf of a device. Cheap to make; safe to read from any thread."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is ``state_dir/calibration``; it need not exist."""
        self.folder = folder
        self._loaded: dict[str, tuple[_Stamp, ActiveProfile | None]] = {}

    def dermoscopes(self) -> tuple[str, ...]:
        """Every dermoscope with anything on the shelf."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.folder.iterdir() if path.is_dir() and _ID.fullmatch(path.name)))

    def place(self, dermoscope_id: str) -> Path:
        """A dermoscope's folder. Raises ShelfError for what is no id."""
        if not _ID.fullmatch(dermoscope_id):
            raise ShelfError(
                f"{dermoscope_id!r} is no dermoscope id: give 1 to 64 letters, digits, '-' or '_' (--dermoscope)."
            )
        return self.folder / dermoscope_id

    def record(self, dermoscope_id: str) -> Record:
        """The record; an empty one where nothing was done yet. Raises ShelfError."""
        return load_record(self.place(dermoscope_id) / RECORD_NAME, dermoscope_id)

    def profile_folder(self, dermoscope_id: str, profile_id: str) -> Path:
        """Where a profile's files lie."""
        return self.place(dermoscope_id) / "profiles" / profile_id

    def verification_folder(self, dermoscope_id: str, verification_id: str) -> Path:
        """Where a verification's files lie."""
        return self.place(dermoscope_id) / "verifications" / verification_id

    def profile(self, dermoscope_id: str, profile_id: str) -> Profile:
        """A profile by its whole id. Raises ProfileError."""
        return load_profile(self.profile_folder(dermoscope_id, profile_id), dermoscope_id)

    def verification(self, dermoscope_id: str, verification_id: str) -> Verification:
        """A verification by its whole id. Raises ShelfError."""
        return load_verification(self.verification_folder(dermoscope_id, verification_id) / VERIFICATION_NAME)

    def corrector(self, profile: Profile) -> Corrector:
        """A profile of the shelf, ready to correct with. Raises ProfileError."""
        gain = load_gain(profile, self.profile_folder(profile.dermoscope_id, profile.profile_id))
        return Corrector(profile.colour_model, gain)

    def changed(self, dermoscope_id: str) -> bool:
        """Whether ``active`` would now give something else than it last gave: a few calls of stat."""
        loaded = self._loaded.get(dermoscope_id)
        return loaded is None or loaded[0] != self._stamp(dermoscope_id, loaded[1])

    def active(self, dermoscope_id: str) -> ActiveProfile | None:
        """The profile in use, read again only after a change; None where there is none.

        Raises:
            ShelfError: record, profile or gain map are damaged or were changed by hand; nothing takes their place.
        """
        loaded = self._loaded.get(dermoscope_id)
        if loaded is not None and loaded[0] == self._stamp(dermoscope_id, loaded[1]):
            return loaded[1]
        self._loaded.pop(dermoscope_id, None)
        # The stamp is taken first: a change while reading is found at the next look.
        record_stamp = _stamp_of(self.place(dermoscope_id) / RECORD_NAME)
        use = self.record(dermoscope_id).active
        active: ActiveProfile | None = None
        files: _Stamp = ()
        if use is not None:
            files = self._profile_stamps(dermoscope_id, use.profile_id)
            profile = self.profile(dermoscope_id, use.profile_id)
            if profile.sha256 != use.profile_sha256:
                raise ProfileError(
                    f"{self.profile_folder(dermoscope_id, use.profile_id)}: is not the profile that was activated; "
                    "verify and activate it again, or fit a new one (dermascan calibrate)."
                )
            active = ActiveProfile(profile, use, self.corrector(profile))
        self._loaded[dermoscope_id] = ((record_stamp, *files), active)
        return active

    def standing(self, dermoscope_id: str, now: datetime, trusted: bool = True) -> Standing:
        """What the dermoscope's calibration is worth now; never raises: what is damaged is none, with its sentence."""
        try:
            active = self.active(dermoscope_id)
        except (ShelfError, OSError) as error:
            return Standing(State.NONE, sentences=(str(error),))
        if active is None:
            return Standing(State.NONE, sentences=(f"The colours of {dermoscope_id} were never calibrated.",))
        return active.standing(now, trusted)

    def flat_field_folder(self, dermoscope_id: str) -> Path:
        """Where the last flat field lies."""
        return self.place(dermoscope_id) / "flatfield"

    def flat_field(self, dermoscope_id: str) -> tuple[FlatField, GainMap] | None:
        """The last flat field that was made, and its gain map; None where there is none.

        Raises:
            ShelfError: it is damaged or was changed by hand.
        """
        path = self.flat_field_folder(dermoscope_id) / FLAT_FIELD_NAME
        if not path.exists():
            return None
        remedy = "make it again (dermascan calibrate flatfield)"
        whole = read_json(path, "the flat field", remedy)
        content = whole.get("flat_field")
        if not isinstance(content, dict) or whole.get(SEAL) != seal_of(content):
            raise ShelfError(f"{path}: the flat field was changed after it was made; {remedy}.")
        flat = FlatField.model_validate(content)
        try:
            return flat, read_gain(flat, path.parent)
        except ProfileError as error:
            raise ShelfError(f"{error} Or {remedy}.") from error

    def last_verification(self, record: Record, profile_id: str) -> Verification | None:
        """The latest verification of a profile. Raises ShelfError where it was changed."""
        for event in reversed(record.events):
            if event.what is What.VERIFIED and event.profile_id == profile_id and event.verification_id:
                return self.verification(record.dermoscope_id, event.verification_id)
        return None

    def _stamp(self, dermoscope_id: str, active: ActiveProfile | None) -> _Stamp:
        files = self._profile_stamps(dermoscope_id, active.profile.profile_id) if active else ()
        return (_stamp_of(self.place(dermoscope_id) / RECORD_NAME), *files)

    def _profile_stamps(self, dermoscope_id: str, profile_id: str) -> _Stamp:
        """Of the profile's own files too: an edit of the profile in use must not go unseen until the next start."""
        folder = self.profile_folder(dermoscope_id, profile_id)
        return tuple(_stamp_of(folder / name) for name in (PROFILE_NAME, "gain.npy"))


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
