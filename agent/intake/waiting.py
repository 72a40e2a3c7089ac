"""Blocking on files and on an event at once, so that an idle watch costs nothing and still stops at once."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def waker(stop: threading.Event) -> Iterator[int]:
    """A file descriptor that can be read, by ``poll``, once ``stop`` is set."""
    ended = threading.Event()
    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def wake() -> None:
        while not stop.wait(2.0):  # the pause matters only where the watch ends without being stopped
            if ended.is_set():
                return
        os.eventfd_write(descriptor, 1)

    thread = threading.Thread(target=wake, name="waker", daemon=True)
    thread.start()
    try:
        yield descriptor
    finally:
        ended.set()
        thread.join()
        os.close(descriptor)


def wait_for(sources: tuple[int, ...], seconds: float) -> None:
    """Block until one of the descriptors can be read, or the time is over."""
    poller = select.poll()
    for source in sources:
        poller.register(source, select.POLLIN)
    poller.poll(max(0.0, seconds) * 1000)
