"""Requests to a worker that wait for their turn. Kept under the worker's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from engines.backend import EngineError, Images, Output


@dataclass(frozen=True, eq=False)
class Request:
    """One caller's images. Its future is pending until the engine begins, so that giving up is just to cancel it."""

    images: Images
    timeout_s: float
    deadline: float
    """On the worker's clock."""
    answer: Future[Output] = field(default_factory=Future)


class Requests:
    """First in, first out."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._waiting.append(request)

    def drop(self, request: Request) -> None:
        """Forget a request that its caller gave up."""
        if request in self._waiting:
            self._waiting.remove(request)

    def take(self) -> Request | None:
        """Begin the next request that its caller still waits for; None where there is none."""
        while self._waiting:
            request = self._waiting.popleft()
            if request.answer.set_running_or_notify_cancel():
                return request
        return None

    def fail(self, hopeless: Callable[[Request], bool], error: Callable[[], EngineError]) -> None:
        """Let the callers of hopeless requests know at once."""
        for request in [request for request in self._waiting if hopeless(request)]:
            self._waiting.remove(request)
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_exception(error())
