"""The events of a scan and of the device, from what the database keeps.

Each event is a function of what the database keeps, so that building it twice gives the same bytes and the same id: the
cloud knows a repeat when it sees one (F19). File names and patient fields never enter an event (F30).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from agent.messages.catalogue import ALERT, RESULT
from agent.messages.envelope import Sender, event_bytes

NAMESPACE = uuid.UUID("6f6b1d0e-7c1b-5b0a-9a55-0d3c6a3c2f10")
"""Of every id made here (UUID version 5, RFC 9562)."""

LOCAL_ONLY = frozenset({"patient_id"})
"""Fields of the answer that stay on the device."""


def scan_id_of(device_id: str, identity: str) -> str:
    """The scan's id, from the device and the content alone.

    A capture that must be claimed a second time (its database was lost: F10) becomes the same scan with the same
    event id, and so is still counted once by everyone outside.
    """
    return str(uuid.uuid5(NAMESPACE, f"scan\0{device_id}\0{identity}"))


def event_id_of(scan_id: str, event_type: str) -> str:
    """The idempotency key of a scan's event of a type."""
    return str(uuid.uuid5(NAMESPACE, f"event\0{scan_id}\0{event_type}"))


def result_event(sender: Sender, scan_id: str, seq: int, finished_at: str, data: Mapping[str, Any]) -> bytes:
    """A scan's terminal event.

    Args:
        sender: who speaks.
        scan_id: also the event's subject.
        seq: ``scans.seq``; as the ``sequence`` extension it is padded, since that attribute is ordered as text.
        finished_at: RFC 3339 time of the terminal state.
        data: from ``answered_data`` or ``rejected_data``.
    """
    event_id = event_id_of(scan_id, RESULT.type)
    return event_bytes(sender, RESULT, event_id=event_id, subject=scan_id, seq=seq, time=finished_at, data=data)


def alert_event(sender: Sender, *, event_id: str, subject: str, seq: int, at: str, data: Mapping[str, Any]) -> bytes:
    """Something that a person should look after.

    Args:
        sender: who speaks.
        event_id: made by the caller, once for each alert.
        subject: what it is about, a dermoscope's id for its colours.
        seq: the alert's place in its topic.
        at: RFC 3339 time.
        data: ``kind``, ``sentence`` and figures; nothing of a patient.
    """
    return event_bytes(sender, ALERT, event_id=event_id, subject=subject, seq=seq, time=at, data=data)


def answered_data(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What leaves the device of an answer: all of it but the patient."""
    return {key: value for key, value in answer.items() if key not in LOCAL_ONLY} | {"state": "answered"}


def rejected_data(
    sender: Sender,
    *,
    scan_id: str,
    image_sha256: str | None,
    dermoscope_id: str,
    reason: str,
    sentence: str,
    received_at: str,
    finished_at: str,
    clock_trusted: bool,
) -> dict[str, Any]:
    """What is told of a refused capture, in its event and in its result file: never its path."""
    return {
        "scan_id": scan_id,
        "image_sha256": image_sha256,
        "clinic_id": sender.clinic_id,
        "device_id": sender.device_id,
        "dermoscope_id": dermoscope_id,
        "state": "rejected",
        "reason": reason,
        "sentence": sentence,
        "received_at": received_at,
        "finished_at": finished_at,
        "clock_trusted": clock_trusted,
        "software_version": sender.software_version,
    }
