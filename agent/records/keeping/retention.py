"""Retention: what is given up for its age or for want of room, in order, counted and said (F06).

For its age (``[store] retention_days``): a scan is reduced to its answer. For want of room, oldest first and no further
than needed: what a crash left; plans of other engines and older backups (when the disk itself is short); the bytes of
events that the cloud has committed; pictures of scans that ended more than a month ago. Never an unsent event, a
verdict, a row of the audit, or a capture that is not answered: when nothing else is left, intake stops instead
(`agent.records.space`).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Final

from agent.records import giving_up
from agent.records.audit import AGENT, AuditAction
from agent.records.checkpoint import Rarely
from agent.records.errors import StoreClosed, StoreError
from agent.records.giving_up import Kept
from agent.records.keeping.calendar import Calendar
from agent.records.keeping.files import remove_listed, write_again
from agent.records.results import TEMPORARY
from agent.records.space import DISK_RESERVE_BYTES, SpaceGuard
from agent.records.store import Store

log = logging.getLogger(__name__)

PRESSURE_SHARE: Final = 0.90
"""Of the quota: from here on room is made; intake stops at 0.95."""
RELIEF_SHARE: Final = 0.85
SHORT_DISK: Final = 4 * DISK_RESERVE_BYTES
YOUNG: Final = timedelta(days=30)
"""So long a scan keeps its pictures, however little room there is."""
TOGETHER: Final = 100
"""Scans or events of one transaction: captures wait no longer than this takes."""
AGE_EVERY_S: Final = 3600.0
FRUITLESS_S: Final = 600.0
"""Pause after a look that found nothing to give up."""
LEFTOVER_S: Final = 24 * 3600.0
LAST_LOOK: Final = "retention-looked-at"
TOTALS: Final = "given-up"


@dataclass(frozen=True)
class GivenUp:
    """What was given up."""

    events: int = 0
    """Events that lost their bytes."""
    pictures: int = 0
    """Scans that lost their pictures."""
    fields: int = 0
    """Scans that were reduced to their answer."""
    caches: int = 0
    """Leftovers, plans and backups."""
    bytes: int = 0

    def __add__(self, other: GivenUp) -> GivenUp:
        return GivenUp(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __bool__(self) -> bool:
        return self != GivenUp()


@dataclass(frozen=True)
class Report:
    """What one run came to."""

    given_up: GivenUp
    total: GivenUp
    """Since this database was made."""
    doubt: str | None
    """Why nothing was given up for its age."""
    short: str | None
    """What to do, where there is too little room all the same."""


class Retention:
    """Gives up what is due. Any thread may call it, one at a time."""

    def __init__(
        self,
        store: Store,
        state_dir: Path,
        space: SpaceGuard,
        retention_days: int | None,
        *,
        wall: Callable[[], datetime],
        trusted: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._state_dir, self._space, self._monotonic = store, state_dir, space, monotonic
        self.retention_days = retention_days
        """May be changed while it runs."""
        self._wall, self._trusted = wall, trusted
        last = store.look(lambda db: giving_up.noted(db, LAST_LOOK))
        self._calendar = Calendar(None if last is None else datetime.fromisoformat(last), monotonic)
        self._next_age = self._next_room = float("-inf")
        self._rarely = Rarely(log, 3600.0, monotonic)

    def look(self) -> None:
        """For the agent's rounds: costs next to nothing where nothing is due."""
        try:
            self._look()
        except StoreClosed:
            return
        except (StoreError, OSError) as error:
            self._rarely.warning("what is due to be given up has to wait: %s", error)

    def run(self) -> Report:
        """Everything that is due now."""
        given_up = self._finish()
        doubt = None
        if self.retention_days is not None:
            done, doubt = self._for_age(self.retention_days)
            given_up += done
        if self._pressed():
            given_up += self._for_room()
        return Report(given_up, self._count(given_up), doubt, self._short())

    def _look(self) -> None:
        now = self._monotonic()
        given_up = self._finish()
        if self.retention_days is not None and now >= self._next_age:
            self._next_age = now + AGE_EVERY_S
            done, doubt = self._for_age(self.retention_days)
            given_up += done
            if doubt is not None:
                self._rarely.warning("nothing is given up for its age: %s", doubt)
        if now >= self._next_room and self._pressed():
            done = self._for_room()
            self._next_room = now + (0.0 if done else FRUITLESS_S)
            given_up += done
            if (short := self._short()) is not None:
                self._rarely.error("%s", short)
        if given_up:
            self._count(given_up)

    def _finish(self) -> GivenUp:
        """Remove what a crash left on the list."""
        freed = remove_listed(self._store, self._state_dir)
        self._space.wrote(-freed)
        self._space.unused(self._store.look(giving_up.unused_bytes))
        return GivenUp(bytes=freed)

    def _for_age(self, days: int) -> tuple[GivenUp, str | None]:
        now = self._wall()
        if (doubt := self._calendar.doubt(now, trusted=self._trusted())) is not None:
            return GivenUp(), doubt
        self._store.change(lambda db: giving_up.note(db, LAST_LOOK, now.isoformat(), _text(now))).result()
        before = _text(now - timedelta(days=days))
        done = self._slim(lambda: True, before) + self._reduce(Kept.ANSWER_ONLY, before, lambda: True)
        if done.fields:
            detail = {"scans": done.fields, "older_than_days": days}
            self._store.audit(AuditAction.RETENTION, AGENT.who, AGENT.role, None, detail).result()
        return done, None

    def _for_room(self) -> GivenUp:
        """In the order of how little they are missed."""
        done = self._clear_leftovers()
        if self._space.space().disk_free < SHORT_DISK:
            done += self._clear_caches()
        done += self._slim(self._pressed_still, None)
        if not self._trusted():
            return done
        return done + self._reduce(Kept.WITHOUT_PICTURES, _text(self._wall() - YOUNG), self._pressed_still)

    def _slim(self, on: Callable[[], bool], before: str | None) -> GivenUp:
        done = GivenUp()
        while on():
            slimmed = self._store.change(lambda db: giving_up.slim_events(db, TOGETHER, before)).result()
            done += GivenUp(events=slimmed.events, bytes=slimmed.bytes)
            self._space.unused(self._store.look(giving_up.unused_bytes))
            if slimmed.events < TOGETHER:
                break
        return done

    def _reduce(self, to: Kept, before: str, on: Callable[[], bool]) -> GivenUp:
        done, now = GivenUp(), _text(self._wall())
        until = self._store.look(lambda db: giving_up.old_until(db, before, now))
        while on():
            scans = self._store.look(lambda db: giving_up.finished_before(db, before, now, until, TOGETHER, down_to=to))
            if not scans:
                break
            reduce = partial(giving_up.reduce, state_dir=self._state_dir, scan_ids=scans, to=to)
            rewrite = self._store.change(reduce).result()
            freed = remove_listed(self._store, self._state_dir) + write_again(self._store, rewrite)
            self._space.wrote(-freed)
            self._space.unused(self._store.look(giving_up.unused_bytes))
            count = len(scans)
            done += GivenUp(bytes=freed, **({"fields": count} if to is Kept.ANSWER_ONLY else {"pictures": count}))
        return done

    def _clear_leftovers(self) -> GivenUp:
        """What a crash left: half files, and copies of a salvage."""
        old = [
            path
            for pattern in (f"results/.*{TEMPORARY}", f".*{TEMPORARY}", "quarantine/*/.salvage-*", "backups/.*.part")
            for path in self._state_dir.glob(pattern)
            if time.time() - path.lstat().st_mtime > LEFTOVER_S
        ]
        return _cleared(old)

    def _clear_caches(self) -> GivenUp:
        """Plans but the two that were made last, backups but the newest one."""
        plans = [path for path in (self._state_dir / "cache" / "plans").glob("[0-9a-f]*") if path.is_dir()]
        backups = sorted((self._state_dir / "backups").glob("dermascan-[0-9]*.db"))
        return _cleared([*sorted(plans, key=lambda path: path.lstat().st_mtime)[:-2], *backups[:-1]])

    def _pressed(self) -> bool:
        space = self._space.space()
        return space.share >= PRESSURE_SHARE or space.disk_free < SHORT_DISK

    def _pressed_still(self) -> bool:
        space = self._space.measure()
        return space.share >= RELIEF_SHARE or space.disk_free < SHORT_DISK

    def _short(self) -> str | None:
        space = self._space.measure()
        if space.share < PRESSURE_SHARE and space.disk_free >= SHORT_DISK:
            return None
        waiting = self._store.counts().waiting
        unsent = f"; {waiting} events wait for the cloud and keep their room until it has them" if waiting else ""
        remedy = "raise [store] quota_mb, or free the disk"
        return f"{self._space.figures()}, and nothing more may be given up{unsent}: {remedy}"

    def _count(self, given_up: GivenUp) -> GivenUp:
        total = GivenUp(**(self._store.look(lambda db: giving_up.noted(db, TOTALS)) or {}))
        if not given_up:
            return total
        total += given_up
        at = _text(self._wall())
        self._store.change(lambda db: giving_up.note(db, TOTALS, asdict(total), at)).result()
        log.info("given up: %s", told(given_up))
        return total


def told(given_up: GivenUp) -> str:
    """What was given up, in words."""
    parts = [
        f"the bytes of {given_up.events} events that the cloud has" if given_up.events else "",
        f"the pictures of {given_up.pictures} scans" if given_up.pictures else "",
        f"all but the answer of {given_up.fields} scans" if given_up.fields else "",
        f"{given_up.caches} leftovers, plans or backups" if given_up.caches else "",
    ]
    what = ", ".join(part for part in parts if part) or "files"
    return f"{what} ({given_up.bytes / 1e6:.1f} MB)"


def _cleared(paths: list[Path]) -> GivenUp:
    freed = 0
    for path in paths:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        freed += sum(file.lstat().st_size for file in files)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
    return GivenUp(caches=len(paths), bytes=freed)


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
