"""What a verb works with: the shelf, the dermoscope and the operator that were named, the clock."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from calibration.commands.settings import Settings, SettingsError, find_settings
from calibration.shelf.clock import Clock
from calibration.shelf.profile import Profile
from calibration.shelf.reading import FOLDER, Shelf
from calibration.shelf.record import Record

OWN_LIGHT: Final = "the dermoscope's own light"


class Which(Enum):
    """Which profile a verb means where none is named."""

    NEWEST = "newest"
    IN_USE = "in use"
    DUE = "due"
    """For a verification: the newest while it waits to be used for the first time, afterwards the one in use."""


class Refused(Exception):
    """A verb cannot do what it was asked: one sentence that says what to do."""


@dataclass(frozen=True)
class Desk:
    """A verb's arguments, made sense of one by one as they are asked for."""

    arguments: argparse.Namespace
    clock: Clock = field(default_factory=Clock)

    @cached_property
    def settings(self) -> Settings:
        """The agent's settings. Raises SettingsError."""
        return find_settings(self.arguments)

    @cached_property
    def shelf(self) -> Shelf:
        """The device's shelf. Raises SettingsError."""
        return Shelf(self.settings.state_dir / FOLDER)

    @cached_property
    def dermoscope(self) -> str:
        """The id of the dermoscope that is meant.

        Raises:
            SettingsError: none was named and there are several.
            Refused: one was named that the settings do not know.
        """
        named: str | None = getattr(self.arguments, "dermoscope", None)
        known = self.known
        if named is None:
            if len(known) == 1:
                return known[0]
            there = f"there are {', '.join(known)}" if known else "none is known yet"
            raise SettingsError(f"Say which dermoscope is meant (--dermoscope ID): {there}.")
        self.shelf.place(named)
        if self.settings.dermoscopes and named not in self.settings.dermoscopes:
            raise Refused(
                f"There is no dermoscope {named!r} on this device; its settings know "
                f"{', '.join(self.settings.dermoscopes)}. "
                "Look at the label on the dermoscope and name one of these (--dermoscope ID)."
            )
        return named

    @property
    def known(self) -> tuple[str, ...]:
        """The dermoscopes of the settings, or else of the shelf."""
        return tuple(self.settings.dermoscopes) or self.shelf.dermoscopes()

    @property
    def operator(self) -> str:
        """Who does it. Raises Refused."""
        named = str(getattr(self.arguments, "operator", None) or "").strip()
        if not named:
            raise Refused("Say who does this (--operator NAME): it is recorded and stands in the report.")
        return named

    @property
    def illuminant(self) -> str:
        """The light of the shots, in the technician's words."""
        return str(getattr(self.arguments, "illuminant", None) or OWN_LIGHT)

    @property
    def target_serial(self) -> str | None:
        """The chart's serial number."""
        return getattr(self.arguments, "target_serial", None) or None

    @property
    def json(self) -> bool:
        """Whether a program reads what is printed."""
        return bool(getattr(self.arguments, "json", False))

    def record(self) -> Record:
        """The dermoscope's record. Raises ShelfError."""
        return self.shelf.record(self.dermoscope)

    def options(self) -> str:
        """The options of this call that the next command needs too, as they are typed."""
        words = [
            f" {flag} {shlex.quote(str(value))}"
            for flag, key in (
                ("--config", "config"),
                ("--state-dir", "state_dir"),
                ("--dermoscope", "dermoscope"),
                ("--operator", "operator"),
            )
            if (value := getattr(self.arguments, key, None)) is not None
        ]
        return "".join(words)

    def chosen_profile(self, which: Which = Which.NEWEST) -> Profile:
        """The profile that ``--profile`` names, by its id or the id's beginning; else the one that ``which`` says.

        Raises:
            Refused: there is none, or the beginning fits none or several, or it is another dermoscope's.
            ShelfError: it cannot be read.
        """
        record = self.record()
        ids = record.profile_ids()
        named: str | None = getattr(self.arguments, "profile", None)
        if named is not None:
            return self.shelf.profile(self.dermoscope, self._by_beginning(named, ids))
        in_use = record.active.profile_id if record.active else None
        if which is Which.IN_USE and in_use is None:
            raise Refused(
                f"{self.dermoscope} has no profile in use; name one with --profile, or calibrate first "
                "(dermascan calibrate)."
            )
        if not ids:
            raise Refused(f"{self.dermoscope} has no profile yet; fit one first (dermascan calibrate fit SHOT).")
        waiting = which is not Which.IN_USE and not (which is Which.DUE and record.was_active(ids[-1]))
        return self.shelf.profile(self.dermoscope, ids[-1] if waiting or in_use is None else in_use)

    def _by_beginning(self, named: str, ids: tuple[str, ...]) -> str:
        fitting = [profile_id for profile_id in dict.fromkeys(ids) if profile_id.startswith(named)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise Refused(f"{named!r} fits {', '.join(fitting)}; give more of the id.")
        for other in self.shelf.dermoscopes():
            if other != self.dermoscope and any(
                found.startswith(named) for found in self.shelf.record(other).profile_ids()
            ):
                raise Refused(
                    f"The profile {named} belongs to the dermoscope {other}, not to {self.dermoscope}; each dermoscope "
                    f"needs a profile of its own: fit one for {self.dermoscope}."
                )
        there = ", ".join(ids[-3:]) or "none"
        raise Refused(f"{self.dermoscope} has no profile {named!r}; the latest are: {there}.")


def software_version() -> str:
    """This software's version, as profiles carry it."""
    try:
        return version("dermascan-edge")
    except PackageNotFoundError:
        return "unknown"
