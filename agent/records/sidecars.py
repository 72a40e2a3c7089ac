"""Sidecars of pictures that came by a request: the agent's own files, and so sealed where there is a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.intake.sidecar import MAX_BYTES, Sidecar, parse_sidecar, read_sidecar, sidecar_path
from agent.records.sealing import Seal

_FIELD: Final = "sidecar"


def sidecar_bytes(about: Mapping[str, Any], stem: str, seal: Seal) -> bytes:
    """A sidecar's fields as its file holds them; ``stem`` is the file's name without a suffix."""
    text = json.dumps(dict(about), ensure_ascii=False)
    if seal.key_id is not None:
        text = json.dumps({"sealed": seal.seal(text, stem, _FIELD)})
    return text.encode()


def read_kept_sidecar(capture: Path, seal: Seal) -> Sidecar:
    """The sidecar of a capture, sealed or not (`agent.intake.sidecar.read_sidecar`)."""
    path = sidecar_path(capture)
    try:
        content = json.loads(path.read_bytes()) if path.is_file() and path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and set(content) == {"sealed"}:
        text = seal.open(str(content["sealed"]), path.stem, _FIELD)
        if text is not None:
            return parse_sidecar(text.encode(), path.name)
    return read_sidecar(capture)
