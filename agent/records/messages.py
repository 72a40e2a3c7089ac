"""The events for the cloud: CloudEvents 1.0 in structured JSON, to the byte as they will be sent.

Each event is a function of what the database keeps, with sorted keys and no spaces, so that building it twice
gives the same bytes and the same id: the cloud knows a repeat when it sees one (F19). File names and patient
fields never enter an event (F30).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

RESULT_TYPE = "org.dermascan.result.v1"
RESULT_TOPIC = "results"
ALERT_TYPE = "org.dermascan.alert.v1"
TELEMETRY_TOPIC = "telemetry"
"""The topic's last part; the whole is ``dermascan/v1/{clinic_id}/{device_id}/results``."""

NAMESPACE = uuid.UUID("6f6b1d0e-7c1b-5b0a-9a55-0d3c6a3c2f10")
"""Of every id made here (UUID version 5, RFC 9562)."""

LOCAL_ONLY = frozenset({"patient_id"})
"""Fields of the answer that stay on the device."""


@dataclass(frozen=True)
class Sender:
    """Who speaks: the clinic, the device and the software on it."""

    clinic_id: str
    device_id: str
    software_version: str

    @property
    def source(self) -> str:
        """The CloudEvents ``source``: a URI reference."""
        return f"/dermascan/{quote(self.clinic_id, safe='')}/{quote(self.device_id, safe='')}"


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
    return _event(sender, event_id_of(scan_id, RESULT_TYPE), RESULT_TYPE, scan_id, seq, finished_at, data)


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
    return _event(sender, event_id, ALERT_TYPE, subject, seq, at, data)


def _event(  # noqa: PLR0917 - the attributes of an event, in their usual order
    sender: Sender, event_id: str, event_type: str, subject: str, seq: int, time: str, data: Mapping[str, Any]
) -> bytes:
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": sender.source,
        "type": event_type,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        "sequence": f"{seq:016d}",
        "data": data,
    }
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


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
