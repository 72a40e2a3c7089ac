"""``dermascan run`` with shorter patience or a wedge in it: ``changed_agent.py CONFIG [module:NAME=VALUE | WEDGE]…``.

The changes are put in from outside, so that the product holds no line for them. A wedge waits for the file ``wedge``
beside the settings before it bites.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def wedge(where: str, now: Path) -> None:
    """Have a part stand still from the moment on at which the file is there."""
    owner, name = {
        "main": ("agent.upkeep.notify.Watchdog", "feed"),
        "store": ("agent.records.writer.Writer", "_take"),
        "intake": ("agent.intake.watch.FolderWatch", "_take_events"),
        "watch dies": ("agent.intake.watch.FolderWatch", "_take_events"),
    }[where]
    module, _, kind = owner.rpartition(".")
    patched = getattr(importlib.import_module(module), kind)
    original: Callable[..., Any] = getattr(patched, name)

    @functools.wraps(original)
    def wrapper(*arguments: Any, **more: Any) -> Any:
        if now.exists():
            if where == "watch dies":
                now.unlink()
                raise SystemExit  # which ends a thread without a word
            threading.Event().wait()
        return original(*arguments, **more)

    setattr(patched, name, wrapper)


def main() -> int:
    config = Path(sys.argv[1])
    for change in sys.argv[2:]:
        place, _, value = change.partition("=")
        if not value:
            wedge(place, config.with_name("wedge"))
            continue
        module, _, name = place.partition(":")
        owner = importlib.import_module(module)
        setattr(owner, name, type(getattr(owner, name))(float(value)))
    from agent.cli import main as dermascan

    return dermascan(["run", "--config", str(config)])


if __name__ == "__main__":
    sys.exit(main())
