"""The SQL of the audit: who did what and when, only ever added to, each row sealed together with the one before it.

A row's hash is SHA-256 over the canonical JSON of everything else in it, the hash of the row before it included. So a
row that was changed, taken out, put in or moved is found by whoever computes the chain again. Who may rewrite the whole
file can compute it anew as well: only the last hash, noted somewhere else, shows that (``dermascan audit verify``).
A row names the scan and never the patient, and holds nothing in anyone's own words (F30).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final

from agent.records.connection import Connection

BEFORE_THE_FIRST: Final = "0" * 64
"""The first row's ``previous_hash``."""
LONGEST_TEXT: Final = 300
LONGEST_DETAIL: Final = 4000
PATIENT_WORDS: Final = ("patient", "note", "age", "sex", "skin_type", "body_site", "birth")
"""No key of a detail has one of these in it."""


class AuditAction(str, Enum):
    """What was done."""

    SIGN_IN = "sign-in"
    SIGN_IN_REFUSED = "sign-in-refused"
    VERDICT = "verdict"
    CALIBRATION = "calibration"
    OVERRIDE = "override"
    """A colour profile that had not passed was put into use all the same."""
    MODEL_CHANGE = "model-change"
    EXPORT = "export"
    TOKEN_CREATED = "token-created"  # noqa: S105 - the name of an action
    TOKEN_REVOKED = "token-revoked"  # noqa: S105 - likewise
    ERASE = "erase"
    RETENTION = "retention"
    """Scans were reduced to their answers, since they had been kept for as long as the settings say."""
    RESTORE = "restore"
    """A backup was taken into use in place of the database."""
    KEY_CHANGE = "key-change"
    """Patient fields are sealed with another key, or a lost key was given up."""
    SALVAGE = "salvage"
    """The database was damaged, and what could be read of it was carried over (F10)."""


@dataclass(frozen=True)
class Actor:
    """Who did something."""

    who: str
    role: str
    """A token's role; ``shell`` for a command on the device; ``device`` for the agent itself."""


SHELL: Final = "shell"
"""The role of who gives a command on the device."""
AGENT: Final = Actor("agent", "device")


@dataclass(frozen=True)
class Entry:
    """A row before it has its place."""

    at: str
    """When it was done (RFC 3339, UTC, milliseconds); rows stand in the order in which the agent heard of it."""
    clock_trusted: bool
    boot_id: str
    who: str
    role: str
    action: str
    subject: str | None
    detail: str
    """Canonical JSON of an object."""
    reference: str | None
    """What it is of, where it may be told twice: the second time nothing is added."""


@dataclass(frozen=True)
class AuditRow(Entry):
    """A row as it is kept."""

    seq: int
    previous_hash: str
    hash: str

    def says(self, subject: str | None, detail: Mapping[str, Any]) -> bool:
        """Whether it is of this subject, with this detail."""
        return self.subject == subject and self.detail == canonical(dict(detail))


COLUMNS: Final = ("seq", *Entry.__dataclass_fields__, "previous_hash", "hash")


def canonical(value: object) -> str:
    """JSON with sorted keys, no spaces and only ASCII; raises ValueError for what has no one way to be written."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def entry(
    actor: Actor,
    action: AuditAction,
    subject: str | None,
    detail: Mapping[str, Any],
    *,
    at: str,
    clock_trusted: bool,
    reference: str | None = None,
) -> Entry:
    """A row, checked.

    Args:
        actor: who did it.
        action: what was done.
        subject: to what: a scan's, token's, profile's or bundle's id.
        detail: of strings, whole numbers, booleans, None, lists and objects; nothing of the patient.
        at: when.
        clock_trusted: whether that may be believed.
        reference: see `Entry`.

    Raises:
        ValueError: the detail has a key with a patient's word in it, is too long, or holds what is no plain value.
    """
    _refuse_patients(detail)
    text = canonical(dict(detail))
    if len(text) > LONGEST_DETAIL:
        raise ValueError(f"an audit row's detail has at most {LONGEST_DETAIL} characters, not {len(text)}")
    who, subject = _text(actor.who), None if subject is None else _text(subject)
    return Entry(at, clock_trusted, boot_id(), who, _text(actor.role), action.value, subject, text, reference)


def append(db: Connection, new: Entry) -> int:
    """Add a row at the end; returns its number. One whose reference is known is not added again: it gives the old."""
    if new.reference is not None:
        known = db.execute("SELECT seq FROM audit WHERE reference = ?", (new.reference,)).fetchone()
        if known is not None:
            return int(known[0])
    last, previous_hash = head(db)
    row = {"seq": last + 1, **asdict(new), "previous_hash": previous_hash}
    values = [int(value) if isinstance(value, bool) else value for value in (*row.values(), hash_of(row))]
    db.execute(
        f"INSERT INTO audit ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608 - our names
        values,
    )
    return last + 1


def hash_of(row: Mapping[str, Any]) -> str:
    """What a row's ``hash`` must be: hex SHA-256 of the canonical JSON of its other columns, ``detail`` as an object.

    Raises:
        ValueError: its detail is not what ``append`` writes.
    """
    content = {name: row[name] for name in COLUMNS if name != "hash"}
    content["detail"] = json.loads(row["detail"])
    if canonical(content["detail"]) != row["detail"]:  # two texts of one value must not have one hash
        raise ValueError("the detail is not canonical JSON")
    content["clock_trusted"] = bool(row["clock_trusted"])
    return hashlib.sha256(canonical(content).encode("ascii")).hexdigest()


def detail_of(row: Entry) -> object:
    """A row's detail as an object; the text where it is none (the row was damaged)."""
    try:
        return json.loads(row.detail)
    except (ValueError, RecursionError):
        return row.detail


def some(db: Connection, after_seq: int, limit: int) -> list[AuditRow]:
    """The next rows after a number, in order."""
    rows = db.execute(
        f"SELECT {', '.join(COLUMNS)} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608 - our own names
        (after_seq, limit),
    ).fetchall()
    return [AuditRow(**{**dict(zip(COLUMNS, row, strict=True)), "clock_trusted": bool(row[2])}) for row in rows]


def head(db: Connection) -> tuple[int, str]:
    """The last row's number and hash; 0 and zeros where there is none."""
    last = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", ()).fetchone()
    return (0, BEFORE_THE_FIRST) if last is None else (int(last[0]), str(last[1]))


def last_of(db: Connection, prefix: str) -> AuditRow | None:
    """The last row whose reference begins so; None where there is none."""
    found = db.execute(
        "SELECT max(seq) FROM audit WHERE reference >= ? AND reference < ?",
        (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)),
    ).fetchone()
    return None if found[0] is None else some(db, found[0] - 1, 1)[0]


@cache
def boot_id() -> str:
    """Which boot of the machine this is; ``unknown`` where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _text(value: str) -> str:
    """What can be stored and hashed of a text: no half characters, no line that could pass for another one."""
    clean = "".join(one if one.isprintable() else "\ufffd" for one in value)
    return clean[:LONGEST_TEXT]


def _refuse_floats(value: object) -> None:
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{key!r} is no name in an audit row's detail")  # noqa: TRY004 - one kind of refusal
            _refuse_floats(one)
    elif isinstance(value, list | tuple):
        for one in value:
            _refuse_floats(one)
    elif value is not None and not isinstance(value, str | int):
        raise ValueError(f"{value!r} has no one way to be written in an audit row's detail: give it as a string")


def _refuse_patients(value: object) -> None:
    if isinstance(value, Mapping):
        for key, one in value.items():
            name = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z]+", "_", str(key)).lower()
            if any(word in PATIENT_WORDS for part in (name, *name.split("_")) for word in (part, part.rstrip("s"))):
                raise ValueError(f"{key!r}: an audit row holds nothing of the patient and no free text (F30)")
            _refuse_patients(one)
    elif isinstance(value, list | tuple):
        for one in value:
            _refuse_patients(one)
