"""Where the doctor looks: the settings, the file system's root and the clock, handed in, as tests have their own."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Final

from agent.config import Config, ConfigError, load_config
from calibration.shelf.clock import RELEASED

USER: Final = "dermascan"
"""Who the service runs as."""
UNIT: Final = "dermascan-agent.service"


@dataclass(frozen=True)
class User:
    """Who the agent runs as."""

    uid: int
    gid: int
    name: str
    groups: frozenset[int]

    def may(self, status: os.stat_result, bits: int) -> bool:
        """Whether the mode lets this user read (4), write (2) or enter (1); lists of access control are not asked."""
        if self.uid == 0:
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.groups else 0
        return (status.st_mode >> shift) & bits == bits


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Place:
    """What the checks look at."""

    config_file: Path
    settings: Config | None
    fault: str = ""
    """Why there are no settings, a line for each fault."""
    root: Path = Path("/")
    """Where ``/proc``, ``/sys``, ``/run`` and ``/etc`` are."""
    now: Callable[[], datetime] = field(default=_now)

    @property
    def config(self) -> Config:
        """The settings; only for checks that need them."""
        if self.settings is None:
            raise ConfigError(self.fault)
        return self.settings

    @property
    def state_dir(self) -> Path:
        """Where the agent keeps everything."""
        return self.config.device.state_dir

    @property
    def clock_trusted(self) -> bool:
        """Whether the wall clock can be right (F16)."""
        return self.now() >= RELEASED

    @cached_property
    def user(self) -> User:
        """Who the agent runs as: the owner of its state, else the service's user, else who asks."""
        try:
            return user_of(self.state_dir.stat().st_uid)
        except (OSError, ConfigError):
            pass
        try:
            return user_of(pwd.getpwnam(USER).pw_uid)
        except KeyError:
            return user_of(os.geteuid())


def user_of(uid: int) -> User:
    """A user with the groups that the system lists for it."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(uid, -1, str(uid), frozenset())
    try:
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except OSError:
        groups = [entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem)]
    return User(uid, entry.pw_gid, entry.pw_name, frozenset(groups))


def open_place(config_file: Path) -> Place:
    """The place that a settings file describes; without usable settings most checks have nothing to look at."""
    try:
        return Place(config_file, load_config(config_file))
    except ConfigError as error:
        return Place(config_file, None, str(error))


def octal(status: os.stat_result) -> str:
    """A mode as ``chmod`` takes it."""
    return f"{stat.S_IMODE(status.st_mode):o}"
