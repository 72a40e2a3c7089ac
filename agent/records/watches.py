"""The SQL of what is kept and told about dermoscopes rather than scans: colour watches, and alerts in the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.records.messages import ALERT_TYPE, TELEMETRY_TOPIC, Sender, alert_event
from agent.records.scans import Connection


def colour_watch(db: Connection, dermoscope_id: str) -> str | None:
    """The state kept of a dermoscope's colour watch, as it was given; None where there is none."""
    row = db.execute("SELECT state FROM colour_watches WHERE dermoscope_id = ?", (dermoscope_id,)).fetchone()
    return None if row is None else str(row[0])


def keep_colour_watch(db: Connection, dermoscope_id: str, state: str) -> None:
    """Keep the state of a dermoscope's colour watch."""
    db.execute(
        "INSERT INTO colour_watches (dermoscope_id, state) VALUES (?, ?)"
        " ON CONFLICT (dermoscope_id) DO UPDATE SET state = excluded.state",
        (dermoscope_id, state),
    )


def alert(db: Connection, sender: Sender, *, event_id: str, subject: str, data: Mapping[str, Any], at: str) -> None:
    """Put an alert into the outbox, with the next number of its topic."""
    seq = _next_of(db, TELEMETRY_TOPIC)
    event = alert_event(sender, event_id=event_id, subject=subject, seq=seq, at=at, data=data)
    db.execute(
        "INSERT INTO outbox (event_id, scan_id, type, topic, event, created_at) VALUES (?, NULL, ?, ?, ?, ?)",
        (event_id, ALERT_TYPE, TELEMETRY_TOPIC, event, at),
    )


def _next_of(db: Connection, topic: str) -> int:
    """The next number of a topic, without gaps: this is how the cloud sees that something is missing."""
    row = db.execute(
        "INSERT INTO streams (topic, last) VALUES (?, 1) ON CONFLICT (topic) DO UPDATE SET last = last + 1"
        " RETURNING last",
        (topic,),
    ).fetchall()
    return int(row[0][0])
