"""The clock: whether it can be right, whether something keeps it right, and whether it survives a power cut (F16)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from agent.access.tokens import FOLDER, LAST_TIME
from agent.doctor.finding import Check, Finding, failed, ok, warning
from agent.doctor.patience import TooLong, program
from agent.doctor.place import Place

_TIME_ERROR: Final = 5
"""``TIME_ERROR`` of sys/timex.h: the kernel's clock is not synchronised."""
_TIMEX_BYTES: Final = 512
"""More than ``struct timex`` has anywhere; all zero, its ``modes`` ask for nothing to be changed."""
_SLACK: Final = timedelta(hours=1)
_SET: Final = 'connect the device to the network, or run: sudo timedatectl set-time "YYYY-MM-DD HH:MM"'


def look(place: Place) -> Iterator[Finding]:
    """Times on answers, certificates and calibrations are only as right as the clock."""
    now = place.now()
    if not place.clock_trusted:
        yield failed(f"The clock shows {now:%d %B %Y}, which cannot be right.", _SET)
    last = _last_time(place)
    if place.clock_trusted and last is not None and now < last - _SLACK:
        yield failed(f"The clock went back: it was {last:%d %B %Y %H:%M} UTC before.", _SET)
    kept = synchronised()
    if kept is False:
        yield warning(
            "Nothing keeps the clock right: it is not synchronised.",
            "run: sudo timedatectl set-ntp true; a clinic's network may have to let NTP (UDP port 123) out",
        )
    elif place.clock_trusted:
        yield ok(f"The clock is {'synchronised' if kept else 'plausible'}: {now:%d %B %Y, %H:%M} UTC.")
    yield from _battery(place.root / "sys/class/rtc", now)


def synchronised() -> bool | None:
    """Whether the kernel believes its clock, which any of the daemons makes it do; None where nobody tells."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state: int = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state >= 0:
        return state != _TIME_ERROR
    # In the service's sandbox (ProtectClock=) the kernel may not even be asked; systemd may.
    try:
        done = program(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    except TooLong:
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip()) if done is not None else None


def _last_time(place: Place) -> datetime | None:
    """When the agent last believed the clock."""
    try:
        handle = os.open(place.state_dir / FOLDER / LAST_TIME, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            last = datetime.fromisoformat(file.read(64).decode("ascii"))
    except (OSError, ValueError):
        return None
    return last if last.tzinfo is not None else None


def _battery(clocks: Path, now: datetime) -> Iterator[Finding]:
    """The clock that runs on while the device is off; a device may have several, and keep its time in one."""
    shown = []
    for clock in sorted(clocks.glob("rtc*")):
        try:
            shown.append(int((clock / "since_epoch").read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    if shown and all(abs(one - now.timestamp()) > _SLACK.total_seconds() for one in shown):
        when = datetime.fromtimestamp(max(shown), timezone.utc)
        yield warning(
            f"The clock that runs while the device is off shows {when:%d %B %Y %H:%M} UTC, which is wrong.",
            "run: sudo hwclock --systohc; if it is wrong again after a power cut, have its battery replaced",
        )


CHECK = Check(
    name="clock",
    title="Clock",
    looks_at="the date, the kernel's word on synchronisation, the time last believed, the battery-backed clock",
    why="With a wrong clock certificates fail, calibrations do not expire, and times on answers mislead.",
    look=look,
)
