"""What a plan is kept under: everything that made it what it is (F14)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

RECIPE: Final = 1
"""Raised when the way from graph to plan changes, so that no plan of an older way is taken for a new one."""


@dataclass(frozen=True)
class PlanKey:
    """Everything that makes a plan what it is; two plans with equal keys are the same work."""

    model_sha256: str
    """Of ``model.onnx``, the reference that the plan is held against."""
    source: str
    """The graph that is compiled, by its name in the bundle."""
    source_sha256: str
    product: str
    version: str
    gpu: str
    compute_capability: str
    driver: str
    device: str
    """Tells this device from others (see :func:`device_id`)."""
    flags: Mapping[str, str]
    recipe: int = RECIPE

    @property
    def digest(self) -> str:
        """The key's name: 32 hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def device_id(root: Path = Path("/")) -> str:
    """32 hexadecimal digits that tell this device from others; the machine id itself is never written down."""
    try:
        machine = (root / "etc/machine-id").read_bytes().strip()
    except OSError:
        machine = b""
    return hashlib.sha256(b"dermascan-edge plans\0" + machine).hexdigest()[:32]
