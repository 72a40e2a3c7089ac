"""The SQL of what is kept and told about dermoscopes rather than scans: colour watches, and alerts in the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.messages.catalogue import ALERT
from agent.messages.envelope import Sender
from agent.records import outbox
from agent.records.connection import Connection
from agent.records.messages import alert_event


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
    seq = outbox.next_number(db, ALERT.topic)
    event = alert_event(sender, event_id=event_id, subject=subject, seq=seq, at=at, data=data)
    outbox.enqueue(
        db,
        event_id=event_id,
        scan_id=None,
        event_type=ALERT.type,
        topic=ALERT.topic,
        event=event,
        created_at=at,
    )
