"""The wall clock of a visit: what it shows, and whether it can be right (F16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

RELEASED: Final = datetime(2026, 11, 1, tzinfo=timezone.utc)
"""No clock that shows an earlier time than this software's own can be right (a Jetson without a battery: 1970)."""


class ClockError(Exception):
    """The clock cannot be right: one sentence that says how to set it."""


@dataclass(frozen=True)
class Clock:
    """Where a visit gets its time from."""

    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)

    def trusted(self) -> bool:
        """Whether the time can be right."""
        return self.now() >= RELEASED

    def moment(self) -> datetime:
        """Now, in whole seconds, for a document that carries its date.

        Raises:
            ClockError: the clock cannot be right.
        """
        now = self.now().astimezone(timezone.utc).replace(microsecond=0)
        if not self.trusted():
            raise ClockError(
                f"This device's clock shows {now:%d %B %Y}, which cannot be right, and a profile carries its "
                "date: connect "
                'the device to the network or set the clock (sudo timedatectl set-time "YYYY-MM-DD HH:MM"), '
                "then try again."
            )
        return now
