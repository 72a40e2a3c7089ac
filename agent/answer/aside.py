"""A second processor for half of a picture's preparation, where one is free just then.

What OpenCV and NumPy do for a picture they do without Python's lock: two halves take the time of the longer one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Begin(Protocol):
    """Begins work, and gives what waits for its result."""

    def __call__(self, work: Callable[[], T], /) -> Callable[[], T]:
        """Begin."""
        ...


def here(work: Callable[[], T]) -> Callable[[], T]:
    """No second processor: the work is done where its result is asked for."""
    return work


class Aside:
    """A few threads that take work over. Close it once, when nobody begins any more."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aside")

    def begin(self, work: Callable[[], T]) -> Callable[[], T]:
        """Begin ``work``; what comes back waits for its result, or its error.

        Where no thread has got to it by then (the engine has all processors), it is done by who asks for the result.
        """
        begun = [self._pool.submit(work)]

        def result() -> T:
            future = begun.pop()
            try:
                return work() if future.cancel() else future.result()
            finally:
                # It holds the error, and that this frame: a refused picture would stay until Python looks for circles.
                del future

        return result

    def close(self) -> None:
        """End the threads, once what was begun is done."""
        self._pool.shutdown()
