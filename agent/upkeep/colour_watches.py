"""Watches each dermoscope's colours between two calibrations, from its captures, and says so when they have drifted."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.records.store import Store
from calibration.drift import State, Watch, observe

log = logging.getLogger(__name__)

KEEP_EVERY: Final = 10
"""Captures between two writings; a crash costs the watch at most so many observations."""
SPACING_S: Final = 10.0
"""Between two captures of one dermoscope that are looked at: a visit's pictures of one skin count as few."""
ALERT_KIND: Final = "colour_drift"


class ColourWatches:
    """One watch for each dermoscope, kept in the store. Any thread may call it."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds, whatever the wall clock does (F16)."""
        self._store, self._clock = store, clock
        self._looked: dict[str, float] = {}
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._unkept: dict[str, int] = {}

    def warnings(self, dermoscope_id: str) -> tuple[str, ...]:
        """What an answer should say of the dermoscope's colours beside its profile; empty where they are steady."""
        with self._lock:
            watch = self._watch(dermoscope_id)
        if watch.state is not State.DRIFTED or (shift := watch.shift()) is None:
            return ()
        return (shift.sentence,)

    def saw(self, dermoscope_id: str, profile_id: str | None, rgb: NDArray[np.uint8]) -> None:
        """Look at one capture, after its answer is committed, unless one was looked at a moment ago.

        Args:
            dermoscope_id: who took it.
            profile_id: the profile it was corrected with; another one begins a new watch.
            rgb: ``[H, W, 3]`` uint8, uncorrected; the preview will do.
        """
        with self._lock:
            now = self._clock()
            if now - self._looked.get(dermoscope_id, -SPACING_S) < SPACING_S:
                return
            self._looked[dermoscope_id] = now
        observation = observe(rgb)
        if observation is None:
            return
        with self._lock:
            before = self._watch(dermoscope_id).of_profile(profile_id)
            after = before.after(observation)
            self._watches[dermoscope_id] = after
            self._unkept[dermoscope_id] = self._unkept.get(dermoscope_id, 0) + 1
            drifted = after.state is State.DRIFTED and before.state is not State.DRIFTED
            if not drifted and after.state is before.state and self._unkept[dermoscope_id] < KEEP_EVERY:
                return
            self._unkept[dermoscope_id] = 0
        self._keep(dermoscope_id, after, drifted=drifted)

    def _keep(self, dermoscope_id: str, watch: Watch, *, drifted: bool) -> None:
        alert: dict[str, Any] | None = None
        shift = watch.shift()
        if drifted and shift is not None:
            log.warning("dermoscope %s: %s", dermoscope_id, shift.sentence)
            alert = {
                "kind": ALERT_KIND,
                "dermoscope_id": dermoscope_id,
                "profile_id": watch.profile_id,
                "sentence": shift.sentence,
                "light": round(shift.light, 2),
                "light_limit": round(shift.light_limit, 2),
                "skin": round(shift.skin, 2),
                "skin_limit": round(shift.skin_limit, 2),
            }
        state = json.dumps(watch.as_plain(), separators=(",", ":"))
        self._store.keep_colour_watch(dermoscope_id, state, alert).add_done_callback(_say_failure)

    def _watch(self, dermoscope_id: str) -> Watch:
        """The watch as it stands, from the store at the first time (with the lock held)."""
        watch = self._watches.get(dermoscope_id)
        if watch is None:
            watch = self._watches[dermoscope_id] = self._kept(dermoscope_id)
        return watch

    def _kept(self, dermoscope_id: str) -> Watch:
        kept = self._store.colour_watch(dermoscope_id)
        if kept is None:
            return Watch()
        try:
            return Watch.from_plain(json.loads(kept))
        except ValueError as error:
            log.warning(
                "dermoscope %s: its colour watch begins anew, what was kept is damaged: %s", dermoscope_id, error
            )
            return Watch()


def _say_failure(kept: Future[None]) -> None:
    if (error := kept.exception()) is not None:
        log.warning("a colour watch could not be kept: %s", error)
