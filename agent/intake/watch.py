"""Watches a dermoscope's folder and delivers each complete capture once; events are hints, never proof (F01 to F04)."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from inotify_simple import INotify, flags

from agent.intake.capture import Arrival, Capture, FileStamp, Unusable
from agent.intake.complete import is_complete
from agent.intake.entry import ChangedError, Entry, Role, look, read_once, role
from agent.intake.folder_identity import FolderIdentity, needs_polling
from agent.intake.late_sidecars import LateSidecars
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, Rejection, refuse
from agent.intake.remembered import Remembered
from agent.intake.settling import Candidates, Patience, Step
from agent.intake.waiting import wait_for, waker

_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED
_MASK = (
    flags.CLOSE_WRITE | flags.MOVED_TO | flags.CREATE | flags.MODIFY | flags.ATTRIB
    | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
)  # fmt: skip
_RESCAN_SHARE = 200
"""A rescan comes at the earliest after 200 times what the last one took: at most 0.5 % of a core."""
_ROOT_CHECK_S = 1.0
_UNREADABLE_AFTER = 6
"""Failed readings, over about 16 seconds."""

log = logging.getLogger(__name__)


def _never(_path: Path, _stamp: FileStamp) -> bool:
    return False


class FolderWatch:
    """One dermoscope's folder. ``run`` belongs on a thread of its own; it may be run again after it ended.

    Args:
        folder: the folder; it may be absent, and may go and come.
        dermoscope_id: whose it is.
        deliver: called with each capture or unusable entry, on the watch's thread, one at a time. It may block: the
            kernel and the next rescan remember what comes meanwhile. What it raises is logged and tried again.
        known: whether the file with this stamp was taken before (by an earlier process), so that it is not read.
        limits: files with more bytes are refused unread.
        clock: monotonic seconds.
        settle_s: see :class:`agent.intake.settling.Patience`, as the next two.
        found_after_s: see there.
        truncated_after_s: see there.
        rescan_s: seconds between rescans.
        poll_s: the same where events cannot be relied on (network shares).
        on_sidecar: called with the path of a sidecar that was written, changed or found; says whether it is settled,
            and is called again later where it is not (`agent.intake.late_sidecars`).
    """

    def __init__(
        self,
        folder: Path,
        dermoscope_id: str,
        deliver: Callable[[Arrival], None],
        *,
        known: Callable[[Path, FileStamp], bool] = _never,
        limits: DecodeLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        settle_s: float = Patience.settle_s,
        found_after_s: float = Patience.found_after_s,
        truncated_after_s: float = Patience.truncated_after_s,
        rescan_s: float = 30.0,
        poll_s: float = 1.0,
        on_sidecar: Callable[[Path], bool] | None = None,
    ) -> None:
        self._folder = folder
        self._dermoscope_id = dermoscope_id
        self._deliver = deliver
        self._known = known
        self._limits = limits or DecodeLimits()
        self._clock = clock
        self._patience = Patience(settle_s, found_after_s, truncated_after_s)
        self._rescan_s = rescan_s
        self._poll_s = poll_s
        self._identity = FolderIdentity(folder, dermoscope_id)
        self._candidates = Candidates(self._patience)
        self._delivered = Remembered()
        """With the packed stamp, and the content's identity as mark where this process read it."""
        self._sidecars = LateSidecars(on_sidecar, clock)
        self._looked_through = False
        self._next_rescan = 0.0
        self._complaints: dict[str, float] = {}
        self.beat = clock()
        """When the watch last went round, by its clock; stands still while ``deliver`` blocks."""

    @property
    def believed(self) -> bool:
        """Whether what is missing in the folder may be taken for removed (F03)."""
        return self._identity.believed()

    @property
    def there(self) -> bool:
        """Whether the folder is there, and the one that it was."""
        return self._identity.same()

    def missing(self, path: Path) -> bool:
        """Whether a file of this folder was removed; False as well while the folder itself is not believed."""
        if not self.believed:
            return False
        try:
            path.lstat()
        except FileNotFoundError:
            return self.believed  # the share may have dropped between the two looks
        except OSError:
            return False
        return False

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set; returns within a tenth of a second unless ``deliver`` blocks."""
        with waker(stop) as wake:
            while not stop.is_set():
                self._attempt(stop, wake)

    def _attempt(self, stop: threading.Event, wake: int) -> None:
        try:
            self._watch(stop, wake)
        except OSError as error:  # its text would hold file names, which may be patients' names
            self._complain(f"folder {self._folder} cannot be watched: {error.strerror}; trying again")
            stop.wait(_ROOT_CHECK_S)
        except Exception:
            # F02: a watch that dies silently loses captures. Start afresh, with a rescan.
            log.exception("the watch of %s failed and starts again", self._folder)
            stop.wait(_ROOT_CHECK_S)

    def _watch(self, stop: threading.Event, wake: int) -> None:
        """Watch the folder that is there now; returns when it went away or was replaced."""
        self.beat = self._clock()
        root = self._identity.current()
        if root is None:
            self._complain(f"folder {self._folder} of dermoscope {self._dermoscope_id} is not there; waiting for it")
            wait_for((wake,), _ROOT_CHECK_S / 4)
            return
        self._identity.adopt()
        self._candidates.clear()
        self._next_rescan = 0.0
        inotify = self._subscribe()
        try:
            rescan_s = self._poll_s if inotify is None or needs_polling(self._folder) else self._rescan_s
            sources = (wake,) if inotify is None else (wake, inotify.fileno())
            next_root_check = 0.0
            while not stop.is_set():
                self.beat = now = self._clock()
                if now >= next_root_check:
                    if self._identity.current() != root:
                        log.warning("folder %s was removed or replaced", self._folder)
                        return
                    next_root_check = now + _ROOT_CHECK_S
                if now >= self._next_rescan:
                    self._rescan(rescan_s)
                if inotify is not None and not self._take_events(inotify):
                    log.warning("folder %s was removed, moved or unmounted", self._folder)
                    return
                self._sidecars.ask_again(self._folder)
                name = self._candidates.take(self._clock())
                if name is not None:
                    self._handle(name)
                    continue
                due = (self._candidates.next_due(), self._sidecars.next_due())
                until = min(next_root_check, self._next_rescan, *(one for one in due if one is not None))
                wait_for(sources, until - self._clock())
        finally:
            if inotify is not None:
                inotify.close()

    def _subscribe(self) -> INotify | None:
        """Events of the folder; ``None`` where the system has no more of them to give, and polling must do."""
        inotify = None
        try:
            inotify = INotify()
            inotify.add_watch(self._folder, _MASK)
        except OSError as error:
            if inotify is not None:
                inotify.close()
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
                raise
            self._complain(f"no events for folder {self._folder} ({error.strerror}); looking into it regularly instead")
            return None
        return inotify

    def _take_events(self, inotify: INotify) -> bool:
        """Note all events that wait; False when the folder itself went away."""
        now = self._clock()
        for event in inotify.read(timeout=0):
            if event.mask & _GONE:
                return False
            if event.mask & flags.Q_OVERFLOW:
                log.warning("events of folder %s were lost; looking through it", self._folder)
                self._next_rescan = 0.0  # F02
            elif event.name:
                self._note(event.name, event.mask, now)
        return True

    def _note(self, name: str, mask: int, now: float) -> None:
        done = bool(mask & (flags.CLOSE_WRITE | flags.MOVED_TO))
        if mask & flags.CREATE and not mask & flags.ISDIR:
            done |= self._is_linked(name)
        kind = role(name)
        if kind is Role.SIDECAR and done:
            self._sidecars.note(self._folder / name)
        elif kind is not Role.CANDIDATE:
            return
        elif done:
            self._candidates.closed(name, now)
        elif mask & flags.MODIFY:
            self._candidates.written(name, now)
        else:
            # Programs like cp -p set times and rights after the close: no hurry for what was delivered already.
            self._candidates.found(name, now, self._patience.settle_s if name in self._delivered else None)

    def _is_linked(self, name: str) -> bool:
        """A hard link into the folder gives a CREATE and nothing more (F01)."""
        try:
            status = (self._folder / name).lstat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_nlink > 1

    def _rescan(self, every_s: float) -> None:
        """Look through the whole folder for what no event told of."""
        began = self._clock()
        fresh: list[tuple[int, str]] = []
        seen: set[str] = set()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                kind = role(entry.name)
                if kind is Role.LEFT:
                    continue
                seen.add(entry.name)
                if kind is Role.SIDECAR:
                    self._sidecars.note(self._folder / entry.name, tell=self._looked_through)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                    regular = stat.S_ISREG(status.st_mode)
                    stamp = FileStamp.of(status) if regular else look(self._folder, entry.name).stamp
                except OSError:
                    continue
                if not self._is_done(entry.name, stamp):
                    fresh.append((status.st_mtime_ns, entry.name))
        self._delivered.keep_only(seen)
        self._sidecars.keep_only(seen)
        self._looked_through = True
        now = self._clock()
        for _, name in sorted(fresh):
            self._candidates.found(name, now)
        self._next_rescan = now + max(every_s, _RESCAN_SHARE * (now - began))

    def _is_done(self, name: str, stamp: FileStamp) -> bool:
        """Whether the entry was delivered with this stamp, by us or by an earlier process."""
        packed = stamp.packed()
        if self._delivered.has(name, packed):
            return True
        if self._known(self._folder / name, stamp):
            self._delivered.put(name, packed)
            return True
        return False

    def _handle(self, name: str) -> None:
        """Look at one candidate: deliver it, plan another look, or forget it."""
        try:
            entry = look(self._folder, name)
        except (FileNotFoundError, NotADirectoryError):
            self._candidates.forget(name)
            return
        except OSError as error:
            self._candidates.failed(name, self._clock())
            self._complain(f"a file in {self._folder} cannot be looked at: {error.strerror}")
            return
        if not self._candidates.is_closed(name) and self._is_done(name, entry.stamp):
            self._candidates.forget(name)
        elif entry.ignored:
            self._delivered.put(name, entry.stamp.packed())
            self._candidates.forget(name)
            log.info("folder %s holds a folder or a link to nothing, which is left alone", self._folder)
        elif entry.rejection is not None:
            self._refuse(name, entry, entry.rejection)
        else:
            self._read(name, entry)

    def _read(self, name: str, entry: Entry) -> None:
        size, limit = entry.stamp.size, self._limits.max_bytes
        step = self._candidates.decide(name, entry.stamp, self._clock(), too_large=size > limit)
        if step is Step.WAIT:
            return
        if size > limit:
            rejection = refuse(Reason.TOO_MANY_BYTES, size=-(-size // 2**20), limit=limit // 2**20)
            self._refuse(name, entry, rejection)
            return
        try:
            data, stamp = read_once(entry.real)
        except ChangedError:
            self._candidates.changed(name, self._clock())
            return
        except OSError:
            if self._candidates.failed(name, self._clock()) >= _UNREADABLE_AFTER:
                self._refuse(name, entry, refuse(Reason.UNREADABLE))
            return
        complete = is_complete(data)
        if not complete and step is Step.READ:
            self._candidates.incomplete(name, stamp, self._clock())
            return
        capture = Capture.from_bytes(entry.path, self._dermoscope_id, stamp, data, stable=complete)
        if self._hand_on(name, capture):
            self._identity.captured()

    def _refuse(self, name: str, entry: Entry, rejection: Rejection) -> None:
        self._hand_on(name, Unusable(entry.path, self._dermoscope_id, entry.stamp, rejection))

    def _hand_on(self, name: str, arrival: Arrival) -> bool:
        """Deliver, unless the very same was delivered before; what the receiver raises is met by trying again."""
        stamp, mark = arrival.stamp.packed(), os.fsencode(arrival.identity)
        if not self._delivered.has(name, stamp, mark):
            try:
                self._deliver(arrival)
            except Exception:
                log.exception("an arrival of dermoscope %s was not taken; trying again", self._dermoscope_id)
                self._candidates.failed(name, self._clock())
                return False
            self._delivered.put(name, stamp, mark)
        self._candidates.forget(name)
        return True

    def _complain(self, message: str) -> None:
        """Log a standing trouble once a minute (F28)."""
        now = self._clock()
        if now >= self._complaints.get(message, now):
            self._complaints[message] = now + 60.0
            log.warning("%s", message)
