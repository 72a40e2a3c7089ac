"""A bound on how long something is awaited, without a task of its own for each piece of a body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfPatience(Exception):
    """It took too long."""


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Break off what is awaited inside after so many seconds, with `OutOfPatience`."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("nothing is awaited outside of a task")
    ran_out = False

    def run_out() -> None:
        nonlocal ran_out
        ran_out = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, run_out)
    try:
        yield
    except asyncio.CancelledError:
        if not ran_out:
            raise  # somebody else ends it
        if uncancel := getattr(task, "uncancel", None):  # since Python 3.11 a task counts these
            uncancel()
        raise OutOfPatience from None
    finally:
        timer.cancel()
