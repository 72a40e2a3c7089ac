"""The SQL of the outbox: what goes in, in which order it leaves, and where it ends (F18 to F21).

A row is ``waiting`` until the cloud says that it has committed it. Nothing about a delivery on its way is kept: after a
crash everything that is not acknowledged goes again, and the cloud knows a repeat by its event id (F19).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from agent.messages.envelope import MAX_BYTES
from agent.records.connection import Connection
from agent.records.schema import OUTBOX_RANK

FEEDBACK_RANK, USUAL_RANK, TELEMETRY_RANK = 0, 1, 2
"""Values of ``OUTBOX_RANK``: a verdict, anything else, telemetry."""


class OutboxRow(NamedTuple):
    """An event that the cloud has not committed. ``event`` is what goes on the wire, to the byte."""

    seq: int
    event_id: str
    type: str
    topic: str
    """The topic's last part."""
    event: bytes
    attempts: int
    created_at: str


@dataclass(frozen=True)
class OutboxStats:
    """How the outbox stands."""

    waiting: int
    acknowledged: int
    dead: int
    last_seq: int
    """Of the newest row that there ever was; 0 where there was none. What comes later is newer than now."""
    oldest_waiting_at: str | None
    """``created_at`` of the row that waits longest."""
    waiting_by_topic: dict[str, int]


def enqueue(
    db: Connection, *, event_id: str, scan_id: str | None, event_type: str, topic: str, event: bytes, created_at: str
) -> None:
    """Put an event into the outbox: to wait, or, where brokers are not sure to take it, dead with the reason (F21)."""
    reason = None
    if len(event) > MAX_BYTES:
        reason = f"it has {len(event)} bytes, and brokers take no more than {MAX_BYTES}"
    new = db.execute(
        "INSERT INTO outbox (event_id, scan_id, type, topic, state, reason, created_at)"
        # A salvage may have kept the row without its scan or its bytes (F10): it is this one, and has perhaps arrived.
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO UPDATE"
        " SET scan_id = coalesce(outbox.scan_id, excluded.scan_id) RETURNING seq",
        (event_id, scan_id, event_type, topic, "waiting" if reason is None else "dead", reason, created_at),
    ).fetchall()
    db.execute("INSERT OR IGNORE INTO outbox_events (seq, event) VALUES (?, ?)", (new[0][0], event))


def next_number(db: Connection, topic: str) -> int:
    """The next number of a topic, without gaps: this is how the cloud sees that something is missing."""
    row = db.execute(
        "INSERT INTO streams (topic, last) VALUES (?, 1) ON CONFLICT (topic) DO UPDATE SET last = last + 1"
        " RETURNING last",
        (topic,),
    ).fetchall()
    return int(row[0][0])


def due(db: Connection, limit: int, *, fresh_after_seq: int, exclude: Collection[str]) -> list[OutboxRow]:
    """The events to send next, the most urgent first (F20).

    First verdicts, then what was written after ``fresh_after_seq`` (results, alerts, replies), then what is older, then
    telemetry; each in the order of its writing.

    Args:
        db: a connection.
        limit: how many at most.
        fresh_after_seq: from ``OutboxStats.last_seq`` when the connection came up.
        exclude: event ids that are on their way, or have to wait a little.
    """
    excluded = json.dumps(list(exclude))
    found: list[OutboxRow] = []
    for rank, after, up_to in (
        (FEEDBACK_RANK, 0, _ENDLESS),
        (USUAL_RANK, fresh_after_seq, _ENDLESS),
        (USUAL_RANK, 0, fresh_after_seq),
        (TELEMETRY_RANK, 0, _ENDLESS),
    ):
        if len(found) >= limit:
            break
        rows, events = db.execute(_DUE, (rank, after, up_to, excluded, limit - len(found))).fetchone()
        at = 0
        for seq, event_id, kind, topic, length, attempts, created_at in json.loads(rows):
            found.append(OutboxRow(seq, event_id, kind, topic, events[at : at + length], attempts, created_at))
            at += length
    return found


_ENDLESS = (1 << 63) - 1
_DUE = (
    # All in one row: for each row Python takes its lock again, and waits for it where another thread computes (measured
    # beside one that does nothing else: 0.23 s for 200 rows, 0.03 s in one). Both aggregates go the same way.
    "SELECT json_group_array(json_array(seq, event_id, type, topic, length(event), attempts, created_at)),"  # noqa: S608
    " CAST(group_concat(event, '') AS BLOB) FROM (SELECT seq, event_id, type, topic, event, attempts, created_at"
    " FROM outbox INDEXED BY outbox_due CROSS JOIN outbox_events USING (seq)"
    f" WHERE state = 'waiting' AND {OUTBOX_RANK} = ? AND seq > ? AND seq <= ?"
    " AND event_id NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?)"
)
_WAITING_BY_TOPIC = (
    "SELECT topic, count(*) FROM outbox INDEXED BY outbox_waiting_by_topic WHERE state = 'waiting' GROUP BY topic"
)


def acknowledge(db: Connection, event_ids: Iterable[str]) -> int:
    """The cloud has committed these, whatever we had thought of them; returns how many we did not know of yet.

    Ids of no row of ours are passed over: the cloud may say a thing twice, or know more than a new database does.
    """
    rows = db.execute(
        "UPDATE outbox SET state = 'acknowledged', reason = NULL WHERE state <> 'acknowledged'"
        " AND event_id IN (SELECT value FROM json_each(?)) RETURNING seq",
        (_listed(event_ids),),
    ).fetchall()
    return len(rows)


def attempted(db: Connection, event_ids: Iterable[str]) -> None:
    """Count a try at sending these."""
    db.execute(
        "UPDATE outbox SET attempts = attempts + 1 WHERE state = 'waiting'"
        " AND event_id IN (SELECT value FROM json_each(?))",
        (_listed(event_ids),),
    )


def dead(db: Connection, event_id: str, reason: str) -> None:
    """Give an event up until a person says to try again; nothing that waits behind it is held up (F21)."""
    db.execute(
        "UPDATE outbox SET state = 'dead', reason = ? WHERE state = 'waiting' AND event_id = ?", (reason, event_id)
    )


def retry(db: Connection, event_id: str | None) -> int:
    """Let one event that was given up wait again, all of them where None; returns how many.

    Its attempts count from 0 again. One that was too large is sent as it is: the broker may have come to take more. One
    that has lost its bytes stays as it is.
    """
    rows = db.execute(
        "UPDATE outbox SET state = 'waiting', reason = NULL, attempts = 0 WHERE state = 'dead'"
        " AND (? IS NULL OR event_id = ?) AND seq IN (SELECT seq FROM outbox_events) RETURNING seq",
        (event_id, event_id),
    ).fetchall()
    return len(rows)


def bury_without_bytes(db: Connection) -> int:
    """Give up what waits and has lost its bytes to damage, so that people see it (F10, F21); returns how many."""
    rows = db.execute(
        "UPDATE outbox SET state = 'dead', reason = ? WHERE state <> 'acknowledged'"
        " AND seq NOT IN (SELECT seq FROM outbox_events) RETURNING seq",
        ("its bytes were lost with a damaged database, and nothing is left to make them of again",),
    ).fetchall()
    return len(rows)


def stats(db: Connection) -> OutboxStats:
    """How the outbox stands."""
    states = dict(db.execute("SELECT state, count(*) FROM outbox GROUP BY state", ()).fetchall())
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'", ()).fetchone()
    oldest = db.execute("SELECT created_at FROM outbox WHERE state = 'waiting' ORDER BY seq LIMIT 1", ()).fetchone()
    topics = db.execute(
        "SELECT topic, count(*) FROM outbox INDEXED BY outbox_waiting_by_topic WHERE state = 'waiting' GROUP BY topic",
        (),
    ).fetchall()
    return OutboxStats(
        waiting=states.get("waiting", 0),
        acknowledged=states.get("acknowledged", 0),
        dead=states.get("dead", 0),
        last_seq=0 if last is None else int(last[0]),
        oldest_waiting_at=None if oldest is None else str(oldest[0]),
        waiting_by_topic=dict(sorted(topics)),
    )


def _listed(event_ids: Iterable[str]) -> str:
    return json.dumps(list(event_ids))
