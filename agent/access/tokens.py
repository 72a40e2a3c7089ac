"""The tokens by which programs and people are known: ``state_dir/access/tokens.json``, hashed.

A secret is 256 random bits, so its plain SHA-256 is kept: nobody can search that space, and a slow hash, which is for
passwords that people choose, would only slow the answers down. A secret is looked up by its hash: how long that takes
says nothing about any secret.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from agent.access.files import AccessError, Stamp, locked, read_private, stamp_of, write_private
from calibration.shelf.clock import RELEASED

log = logging.getLogger(__name__)

FOLDER: Final = "access"
"""Under ``state_dir``."""
TOKENS: Final = "tokens.json"
LAST_TIME: Final = "last-time"
PREFIX: Final = "dse_"
"""By which people and secret scanners know a secret of ours."""
SECRET_BYTES: Final = 32
LONGEST_SECRET: Final = 128
MOST_TOKENS: Final = 1000
LONGEST_DAYS: Final = 3650
KEEP_TIME_EVERY: Final = timedelta(hours=1)
_SOONEST: Final = datetime.min.replace(tzinfo=timezone.utc)


class Role(str, Enum):
    """What a token is for."""

    CLINICIAN = "clinician"
    """Sees scans and gives verdicts."""
    TECHNICIAN = "technician"
    """Sees how the device does, and scans without the patient."""
    INTEGRATION = "integration"
    """A program of the clinic: scans, verdicts, metrics."""


class Refusal(str, Enum):
    """Why somebody is not let in. For the log and the audit; the caller is told none of it."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Identity:
    """Who is there."""

    token_id: str
    name: str
    role: Role


@dataclass(frozen=True)
class NewToken:
    """A token that was just made. The secret exists nowhere else: show it once."""

    secret: str
    token_id: str


class Token(BaseModel):
    """A token as it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,100}$")]
    role: Role
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    revoked_by: str | None = None

    @property
    def identity(self) -> Identity:
        """Who comes with it."""
        return Identity(self.token_id, self.name, self.role)

    def refusal(self, now: datetime) -> Refusal | None:
        """Why it does not let in at a time; None where it does."""
        if self.revoked_at is not None:
            return Refusal.REVOKED
        if self.expires_at is not None and now >= self.expires_at:
            return Refusal.EXPIRED
        return None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    tokens: Annotated[tuple[Token, ...], Field(max_length=MOST_TOKENS)] = ()


@dataclass(frozen=True)
class _Loaded:
    stamp: Stamp
    by_hash: dict[str, Token]
    by_id: dict[str, Token]
    error: str | None = None


def can_be_right(now: datetime) -> bool:
    """Whether a clock that shows this may be believed; a Jetson without an RTC battery boots in 1970 (F16)."""
    return now >= RELEASED


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Tokens:
    """The tokens of a device. Commands write and the agent reads, at once; any thread may call it.

    A clock that cannot be right (F16) lets nobody in whose token had run out when the time was last known, and locks
    nobody out whose token had not. Refusing everyone would take the page from the clinic for a flat battery, each
    morning until there is a network; believing 1970 would bring every old token back to life. What is left open is the
    time that the device was without one, and revoking works at any time.
    """

    def __init__(self, folder: Path, trusted: Callable[[datetime], bool] = can_be_right) -> None:
        """``folder`` is ``state_dir/access``, made when needed; ``trusted``: whether a wall time may be believed."""
        self.path = folder / TOKENS
        self._folder, self._trusted = folder, trusted
        self._lock = threading.Lock()
        self._loaded = _Loaded(None, {}, {})
        self._last_time: datetime | None = None

    def create(self, name: str, role: Role, expires_days: int | None = None, now: datetime | None = None) -> NewToken:
        """Make a token.

        Args:
            name: whose it is, for people and the audit: 1 to 100 characters.
            role: what it is for.
            expires_days: 1 to 3650; None: until it is revoked.
            now: when not now.

        Raises:
            AccessError: the name or the days are not usable, the clock cannot tell when it would end, or the file
                cannot be used.
        """
        now = now or _now()
        if expires_days is not None:
            if not 1 <= expires_days <= LONGEST_DAYS:
                raise AccessError(f"a token lasts 1 to {LONGEST_DAYS} days, not {expires_days}")
            if not self._trusted(now):
                raise AccessError(
                    f"this device's clock shows {now:%d %B %Y}, which cannot be right, so nobody could say when the "
                    "token ends: set the clock, or make a token that does not end (--expires-days 0)"
                )
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        try:
            token = Token(
                token_id=secrets.token_hex(6),
                name=name.strip(),
                role=role,
                sha256=hash_of(secret),
                created_at=now,
                expires_at=None if expires_days is None else now + timedelta(days=expires_days),
            )
        except ValidationError:
            raise AccessError("a token's name has 1 to 100 printable characters") from None
        with locked(self._folder):
            kept = self._read()
            if len(kept) >= MOST_TOKENS:
                kept = tuple(one for one in kept if one.refusal(now) is None)
            if len(kept) >= MOST_TOKENS:
                raise AccessError(f"{self.path}: holds {MOST_TOKENS} tokens: revoke what is not used any more")
            self._write((*kept, token))
        return NewToken(secret, token.token_id)

    def list(self) -> tuple[Token, ...]:
        """Every token, the oldest first. Raises AccessError."""
        return self._read()

    def revoke(self, token_id: str, by: str, now: datetime | None = None) -> Token:
        """Let nobody in with a token from now on; a second time changes nothing.

        Raises:
            AccessError: there is no such token, or the file cannot be used.
        """
        with locked(self._folder):
            kept = self._read()
            found = next((token for token in kept if token.token_id == token_id), None)
            if found is None:
                raise AccessError(f"there is no token {token_id}: dermascan token list names those there are")
            if found.revoked_at is not None:
                return found
            revoked = found.model_copy(update={"revoked_at": now or _now(), "revoked_by": by})
            self._write(tuple(revoked if token.token_id == token_id else token for token in kept))
            return revoked

    def authenticate(self, secret: str, now: datetime) -> Identity | Refusal:
        """Who comes with a secret, or why he is not let in. One stat and one hash; the file is read after a change.

        Raises:
            AccessError: the file is not to be believed, so nobody is let in until it is mended.
        """
        loaded = self._current()
        if not 0 < len(secret) <= LONGEST_SECRET:
            return Refusal.UNKNOWN
        return self._judge(loaded.by_hash.get(hash_of(secret)), now)

    def check(self, token_id: str, now: datetime) -> Identity | Refusal:
        """Whether a token that somebody came with earlier still lets in. As ``authenticate``."""
        return self._judge(self._current().by_id.get(token_id), now)

    def expires_at(self, token_id: str) -> datetime | None:
        """When a token ends; None: not by itself, or there is none. Raises AccessError."""
        token = self._current().by_id.get(token_id)
        return None if token is None else token.expires_at

    def token_id_of(self, secret: str) -> str | None:
        """Whose secret it is, let in or not, for the audit of a refusal; None: nobody's. Raises AccessError."""
        token = self._current().by_hash.get(hash_of(secret)) if len(secret) <= LONGEST_SECRET else None
        return None if token is None else token.token_id

    def _judge(self, token: Token | None, now: datetime) -> Identity | Refusal:
        if token is None:
            return Refusal.UNKNOWN
        refusal = token.refusal(self._time(now))
        return token.identity if refusal is None else refusal

    def _current(self) -> _Loaded:
        with self._lock:
            try:
                stamp = stamp_of(self.path)  # before reading: a change while reading is seen at the next look
            except OSError as error:
                raise AccessError(f"{self.path}: cannot be looked at ({error.strerror}): mend its folder") from error
            if stamp is None or stamp != self._loaded.stamp:
                self._loaded = self._load(stamp)
            loaded = self._loaded
        if loaded.error is not None:
            raise AccessError(loaded.error)
        return loaded

    def _load(self, stamp: Stamp) -> _Loaded:
        try:
            tokens = self._read()
        except AccessError as error:
            log.error("nobody is let in: %s", error)  # noqa: TRY400 - the sentence says it all
            return _Loaded(stamp, {}, {}, str(error))
        return _Loaded(stamp, {one.sha256: one for one in tokens}, {one.token_id: one for one in tokens})

    def _read(self) -> tuple[Token, ...]:
        content = read_private(self.path)
        if content is None:
            return ()
        try:
            return _File.model_validate_json(content).tokens
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise AccessError(
                f"{self.path}: is no list of tokens ({where}: {first['msg']}): put a copy of it back, or move it away "
                "and make new tokens (dermascan token create)"
            ) from error

    def _write(self, tokens: tuple[Token, ...]) -> None:
        content = json.dumps(_File(tokens=tokens).model_dump(mode="json"), indent=2, ensure_ascii=False)
        write_private(self.path, f"{content}\n".encode())

    # The last time that could be right

    def _time(self, now: datetime) -> datetime:
        """The wall time, or where it cannot be right the last one that could."""
        with self._lock:
            if self._last_time is None:
                self._last_time = self._kept_time()
            if not self._trusted(now):
                return max(now, self._last_time)
            if abs(now - self._last_time) >= KEEP_TIME_EVERY:
                self._last_time = now
                try:
                    write_private(self._folder / LAST_TIME, now.isoformat().encode())
                except AccessError as error:
                    log.warning("the time could not be kept: %s", error)
            return now

    def _kept_time(self) -> datetime:
        try:
            kept = datetime.fromisoformat((read_private(self._folder / LAST_TIME) or b"").decode("ascii"))
        except (AccessError, ValueError):
            kept = _SOONEST
        if kept.tzinfo is None:
            kept = _SOONEST
        # A token is not made before its time: what was made last was made not later than now.
        return max(
            [kept, *(token.created_at for token in self._loaded.by_id.values() if self._trusted(token.created_at))]
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)
