"""The envelope that a signature travels in: DSSE v1 (https://github.com/secure-systems-lab/dsse), as JSON.

What is signed is not the payload alone but its pre-authentication encoding, which binds the payload's type to it: bytes
signed as one kind of document can never be passed off as another.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Final

PAYLOAD_TYPE: Final = "application/vnd.dermascan.manifest.v1+json"
MAX_SIGNATURES: Final = 8
"""More than anyone has reason to give; a bound, so that a made-up file costs no time."""


class EnvelopeError(ValueError):
    """The text is no envelope. The message completes "the signature file ..."."""


@dataclass(frozen=True)
class Signature:
    """One signature; ``key_id`` is a hint that nothing vouches for."""

    key_id: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload, what kind of document it is, and who signed it."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: ``"DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def write_envelope(envelope: Envelope) -> bytes:
    """The envelope as JSON text."""
    content = {
        "payloadType": envelope.payload_type,
        "payload": base64.b64encode(envelope.payload).decode(),
        "signatures": [
            {"keyid": signature.key_id, "sig": base64.b64encode(signature.value).decode()}
            for signature in envelope.signatures
        ],
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def read_envelope(text: bytes) -> Envelope:
    """Read an envelope; unknown keys are ignored, as the specification asks.

    Raises:
        EnvelopeError: it is empty, no JSON, or lacks a part.
    """
    if not text.strip():
        raise EnvelopeError("is empty")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("is not valid JSON") from error
    entries = _part(content, "signatures", list)
    if not 1 <= len(entries) <= MAX_SIGNATURES:
        raise EnvelopeError(f"holds {len(entries)} signatures, where 1 to {MAX_SIGNATURES} are due")
    return Envelope(
        _part(content, "payloadType", str),
        _decoded(_part(content, "payload", str), "payload"),
        tuple(_signature(entry) for entry in entries),
    )


def _part(content: object, key: str, kind: type[Any]) -> Any:
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind):
        raise EnvelopeError(f"is no DSSE envelope: {key!r} is missing or of the wrong kind")
    return value


def _signature(entry: object) -> Signature:
    value = _decoded(_part(entry, "sig", str), "sig")
    key_id = entry.get("keyid") if isinstance(entry, dict) else None
    return Signature(key_id if isinstance(key_id, str) else "", value)


def _decoded(text: str, key: str) -> bytes:
    """Standard or URL-safe base64, as the specification asks."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"is no DSSE envelope: {key!r} is not valid base64") from error
