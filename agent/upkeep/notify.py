"""What the service manager is told (sd_notify): that we are ready, how it goes, that we live, that we stop.

The protocol is a datagram of ``NAME=value`` lines to the socket named in ``NOTIFY_SOCKET``; see sd_notify(3). Where
there is none (a terminal, a test) every word is dropped, so that nobody has to ask.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Final

log = logging.getLogger(__name__)

LIMIT_S: Final = 60.0
"""Longest time without progress of any part before it is taken to be wedged: four of an answer's longest deadlines
(3 s, and 10 s of grace on the last rung), and room for a slow disk."""
PERIOD_S: Final = 5.0
"""Between two looks where no watchdog was asked for: the state is told all the same."""
READY_WITHIN_S: Final = 30.0
"""An engine that needs longer than this keeps nobody from taking in captures: READY=1 goes out, and STATUS says it."""
LONGEST_STATUS: Final = 300


class Notifier:
    """Speaks to the service manager; its methods may be called from any thread, and never fail or block."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        """``address``: a path, or an abstract name with "@" in front; None: nobody listens."""
        self._address = None if address is None else _in_kernel_words(address)
        self.watchdog_s = watchdog_s
        """Seconds after which the service manager ends a silent agent; None: it does not."""
        self._said: str | None = None
        self._complained = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> Notifier:
        """As the service manager asks for. Its variables are taken away: workers shall not speak for the agent."""
        env = os.environ if environment is None else environment
        address = env.pop("NOTIFY_SOCKET", "")
        microseconds, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", str(os.getpid()))
        watched = microseconds.isdecimal() and int(microseconds) > 0 and pid == str(os.getpid())
        return cls(address if address[:1] in ("/", "@") else None, int(microseconds) / 1e6 if watched else None)

    def ready(self) -> None:
        """Captures are taken in."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """We were asked to end, and are about to."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """Every part makes progress."""
        self._tell("WATCHDOG=1")

    def status(self, sentence: str) -> None:
        """One line for ``systemctl status``; the same line again is not sent. It must name no patient (F30)."""
        line = " ".join(sentence.split())[:LONGEST_STATUS]
        if line != self._said:
            self._said = line
            self._tell(f"STATUS={line}")

    def _tell(self, words: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as end:
                end.sendto(words.encode(), self._address)
        except OSError as error:
            if error.errno != errno.EAGAIN and not self._complained:
                self._complained = True
                log.warning("the service manager cannot be told anything: %s", error.strerror)


def _in_kernel_words(address: str) -> str:
    """An abstract socket's name begins with a zero byte for the kernel."""
    return "\0" + address[1:] if address.startswith("@") else address


class Watchdog:
    """Says that we live only while every part does (F25).

    Args:
        sources: by name, the monotonic time of each part's last progress (`agent.upkeep.progress` has ready ones). What
            has nothing to do has progress: it gives the present.
        limit_s: how long any of them may stand still.
        notifier: who is told.
        clock: monotonic seconds, the sources' own.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[[], float]],
        limit_s: float = LIMIT_S,
        *,
        notifier: Notifier,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources, self._limit_s, self._notifier, self._clock = dict(sources), limit_s, notifier, clock
        self._wedged: tuple[str, ...] = ()

    @property
    def period_s(self) -> float:
        """How often to `feed`: a third of what the service manager waits, so that one late look ends nothing."""
        return PERIOD_S if self._notifier.watchdog_s is None else min(PERIOD_S, self._notifier.watchdog_s / 3)

    def wedged(self) -> tuple[str, ...]:
        """The parts that stand still. A part that cannot say how it goes stands still."""
        return tuple(name for name, source in self._sources.items() if self._stands_still(name, source))

    def feed(self) -> bool:
        """Look at every part; WATCHDOG=1 goes out, and True comes back, where all of them make progress."""
        wedged = self.wedged()
        if wedged != self._wedged:
            self._wedged = wedged
            if wedged:
                log.critical(
                    "%s: no progress for %.0f s; the watchdog is not fed any more, so the service manager restarts us",
                    " and ".join(wedged),
                    self._limit_s,
                )
            else:
                log.warning("every part makes progress again")
        if wedged:
            self._notifier.status(f"wedged: {', '.join(wedged)}")
            return False
        self._notifier.alive()
        return True

    def _stands_still(self, name: str, source: Callable[[], float]) -> bool:
        try:
            return self._clock() - source() > self._limit_s
        except Exception:
            if name not in self._wedged:
                log.exception("%s cannot say whether it makes progress", name)
            return True


def attend(
    stop: threading.Event,
    notifier: Notifier,
    watchdog: Watchdog,
    *,
    ready: Callable[[], bool],
    how: Callable[[], str] = lambda: "watching",
    ready_within_s: float = READY_WITHIN_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """The agent's main loop: say READY once, feed the watchdog, until ``stop`` is set; then say STOPPING.

    Args:
        stop: set by a signal.
        notifier: who is told.
        watchdog: fed from here, so that a main thread that hangs is noticed as well.
        ready: whether an engine has passed its golden image.
        how: one line about how it goes, without anybody's name.
        ready_within_s: captures are taken in, and wait, from then on, whatever the engine does.
        clock: monotonic seconds.
    """
    began = clock()
    announced = engine = False
    notifier.status("starting: the engine has not passed its golden image yet")
    while not stop.is_set():
        if not engine and ready():
            engine = True
            log.info("ready: an engine has passed its golden image (%.2f s)", clock() - began)
        if not announced and (engine or clock() - began > ready_within_s):
            announced = True
            notifier.ready()
            if not engine:
                log.error("no engine has passed its golden image within %.0f s; captures wait", ready_within_s)
        if watchdog.feed() and announced:
            notifier.status(how() if engine else "no engine has passed its golden image; captures wait")
        pause_s = watchdog.period_s if engine else 1.0 if announced else 0.05
        stop.wait(min(pause_s, watchdog.period_s))
    notifier.status("stopping")
    notifier.stopping()
