"""What every decoder keeps to: the largest size, and silence."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, refuse

_quiet_lock = threading.RLock()


@contextmanager
def quietly() -> Iterator[None]:
    """Keep a library's Python warnings to itself; one thread at a time, as the filters belong to the process."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_size(width: int, height: int, limits: DecodeLimits) -> None:
    """Refuse what has more pixels than the limits allow, or none at all.

    Raises:
        Rejection: too many pixels, or a side of length 0.
    """
    if width < 1 or height < 1:
        raise refuse(Reason.DAMAGED)
    if width * height > limits.max_pixels:
        limit = f"{limits.max_pixels / 1e6:g}"
        raise refuse(Reason.TOO_MANY_PIXELS, width=width, height=height, limit=limit)
