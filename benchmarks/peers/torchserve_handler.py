"""TorchServe's handler with the traced network; the archive brings ``model.pt`` and ``manifest.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers.answering import answer, load
from engines.manifest import Manifest

_loaded: dict[str, Any] = {}


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[dict[str, Any]]:
    """Answer the requests of one batch; the first call, without data, loads the network."""
    if not _loaded:
        folder = Path(context.system_properties["model_dir"])
        _loaded["module"] = load(folder)
        _loaded["manifest"] = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    if data is None:
        return []
    bodies = (row.get("body") or row.get("data") for row in data)
    parsed = (body if isinstance(body, dict) else json.loads(bytes(body)) for body in bodies)
    return [answer(_loaded["module"], _loaded["manifest"], body) for body in parsed]
