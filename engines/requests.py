"""Requests to a worker that wait for their turn. Kept under the worker's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from engines.backend import EngineError, Images, Output, Patients


@dataclass(frozen=True, eq=False)
class Request:
    """One caller's images. Its future is pending until the engine begins, so that giving up is just to cancel it."""

    images: Images
    timeout_s: float
    deadline: float
    """On the worker's clock."""
    patients: Patients = ()
    """For a remote backend: one for each image."""
    answer: Future[Output] = field(default_factory=Future)


class Requests:
    """First in, first out."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._waiting.append(request)

    def drop(self, request: Request) -> None:
        """Forget a request that its caller gave up."""
        if request in self._waiting:
            self._waiting.remove(request)

    def take(self, most: int, in_time: Callable[[Request, int], bool]) -> list[Request]:
        """Begin the next request that its caller still waits for, and those behind it that may share its run.

        Args:
            most: pictures in one run, unless the first request alone brings more.
            in_time: whether a request would be answered by its deadline in a run of so many pictures.

        Returns:
            Requests in turn; empty where nobody waits.
        """
        taken: list[Request] = []
        pictures = 0
        while self._waiting:
            request = self._waiting[0]
            together = pictures + len(request.images)
            if taken and (together > most or not all(in_time(one, together) for one in (*taken, request))):
                break
            self._waiting.popleft()
            if request.answer.set_running_or_notify_cancel():
                taken.append(request)
                pictures = together
        return taken

    def fail(self, hopeless: Callable[[Request], bool], error: Callable[[], EngineError]) -> None:
        """Let the callers of hopeless requests know at once."""
        for request in [request for request in self._waiting if hopeless(request)]:
            self._waiting.remove(request)
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_exception(error())
