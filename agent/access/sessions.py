"""Sessions: what a browser holds instead of its token, hashed in ``state_dir/access/sessions.json``.

A session ends after its hours, when it is closed, or with the token it was opened with. Its hours are counted on the
clock that runs since the boot, which no change of the wall clock moves and which a restart of the agent does not reset
(F16). After a reboot the wall clock decides, where it could be right then and can be now; otherwise one signs in again.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from agent.access.files import AccessError, read_private, write_private
from agent.access.tokens import LONGEST_SECRET, Identity, Refusal, Tokens, can_be_right, hash_of

log = logging.getLogger(__name__)

SESSIONS: Final = "sessions.json"
HOURS: Final = 12.0
"""A working day."""
MOST_SESSIONS: Final = 1000
MOST_OF_A_TOKEN: Final = 50
"""Beyond it the one that ends first is closed."""
SECRET_BYTES: Final = 32


def _wall() -> datetime:
    return datetime.now(timezone.utc)


def _since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


@dataclass(frozen=True)
class SessionClocks:
    """Where times come from."""

    wall: Callable[[], datetime] = _wall
    since_boot_s: Callable[[], float] = _since_boot_s
    """Seconds since the boot, also while the device sleeps."""
    boot_id: Callable[[], str] = _boot_id
    trusted: Callable[[datetime], bool] = can_be_right


@dataclass(frozen=True)
class Session:
    """An open session."""

    identity: Identity
    expires_at: datetime
    """By the wall clock as it is now."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    token_id: str
    boot_id: str
    ends_since_boot_s: float
    ends_at: AwareDatetime | None
    """None: the clock could not be right when it was opened."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    sessions: Annotated[tuple[_Row, ...], Field(max_length=MOST_SESSIONS)] = ()


class Sessions:
    """The open sessions. One process has them, the agent; any of its threads may call it."""

    def __init__(self, folder: Path, tokens: Tokens, clocks: SessionClocks | None = None) -> None:
        """``folder`` is ``state_dir/access``; a file there that cannot be believed means: everyone signs in again."""
        self._path = folder / SESSIONS
        self._tokens, self._clocks = tokens, clocks or SessionClocks()
        self._boot_id = self._clocks.boot_id()
        self._lock = threading.Lock()
        self._rows = self._read()

    def open(self, identity: Identity, hours: float = HOURS) -> str:
        """Open a session; returns its secret, which is kept nowhere else. It survives a restart of the agent.

        Raises:
            AccessError: it could not be kept.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        wall = self._clocks.wall()
        row = _Row(
            sha256=hash_of(secret),
            token_id=identity.token_id,
            boot_id=self._boot_id,
            ends_since_boot_s=self._clocks.since_boot_s() + hours * 3600.0,
            ends_at=wall + timedelta(hours=hours) if self._clocks.trusted(wall) else None,
        )
        with self._lock:
            rows = {key: one for key, one in self._rows.items() if self._left_s(one) > 0}
            of_token = [key for key, one in rows.items() if one.token_id == identity.token_id]
            excess = of_token[: max(0, len(of_token) - MOST_OF_A_TOKEN + 1)]
            for key in excess or list(rows)[: max(0, len(rows) - MOST_SESSIONS + 1)]:
                del rows[key]
            rows[row.sha256] = row
            self._write(rows)
            self._rows = rows
        return secret

    def authenticate(self, secret: str) -> Session | Refusal:
        """Whose session it is, or why it is none: EXPIRED and REVOKED where it is so of its token, too.

        Raises:
            AccessError: the tokens' file is not to be believed.
        """
        if not 0 < len(secret) <= LONGEST_SECRET:
            return Refusal.UNKNOWN
        with self._lock:
            row = self._rows.get(hash_of(secret))
        if row is None:
            return Refusal.UNKNOWN
        left_s = self._left_s(row)
        if left_s <= 0:
            return Refusal.EXPIRED
        wall = self._clocks.wall()
        identity = self._tokens.check(row.token_id, wall)
        if isinstance(identity, Refusal):
            return identity
        ends = wall + timedelta(seconds=left_s)
        token_ends = self._tokens.expires_at(row.token_id)
        return Session(identity, ends if token_ends is None else min(ends, token_ends))

    def close(self, secret: str) -> None:
        """End a session; one that is none is no error. Raises AccessError where its end could not be kept."""
        with self._lock:
            rows = dict(self._rows)
            if rows.pop(hash_of(secret), None) is not None:
                self._rows = rows  # first: it is over in this process whatever the disk says
                self._write(rows)

    def __len__(self) -> int:
        """How many are kept; bounded."""
        return len(self._rows)

    def _left_s(self, row: _Row) -> float:
        if row.boot_id == self._boot_id != "unknown":
            return row.ends_since_boot_s - self._clocks.since_boot_s()
        wall = self._clocks.wall()
        if row.ends_at is None or not self._clocks.trusted(wall):
            return 0.0
        return (row.ends_at - wall).total_seconds()

    def _read(self) -> dict[str, _Row]:
        try:
            content = read_private(self._path)
            rows = () if content is None else _File.model_validate_json(content).sessions
        except AccessError as error:
            log.error("everyone has to sign in again: %s", error)  # noqa: TRY400 - the sentence says it all
            return {}
        except ValidationError:
            log.warning("everyone has to sign in again: %s is no list of sessions; it is written anew", self._path)
            return {}
        return {row.sha256: row for row in rows}

    def _write(self, rows: dict[str, _Row]) -> None:
        content = _File(sessions=tuple(rows.values())).model_dump(mode="json")
        write_private(self._path, json.dumps(content).encode())
