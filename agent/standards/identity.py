"""Ids of what is exported, each a function of the scan and the content: an export that is repeated gives the same."""

from __future__ import annotations

import uuid
from typing import Final

from agent.records.messages import NAMESPACE

UID_PREFIX: Final = "2.25."
"""Of DICOM UIDs made from a UUID, which need no root of one's own (DICOM PS3.5, B.2)."""


def uuid_of(*parts: str) -> uuid.UUID:
    """The UUID (version 5) of what the parts name."""
    return uuid.uuid5(NAMESPACE, "\0".join(("export", *parts)))


def uid_of(*parts: str) -> str:
    """The DICOM UID of what the parts name; at most 44 characters."""
    return f"{UID_PREFIX}{uuid_of(*parts).int}"
