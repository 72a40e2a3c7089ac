"""What is asked through the interface stands back behind the folders' captures, by the system's own means."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.priority import LAST, STEPS_BACK, stand_back


def niceness() -> int:
    """Of this thread alone."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_stands_back_and_takes_no_other_with_it() -> None:
    ours = niceness()
    with ThreadPoolExecutor(1, initializer=stand_back) as pool:
        assert pool.submit(niceness).result() == min(LAST, ours + STEPS_BACK)
    assert niceness() == ours


def test_a_thread_that_one_makes_which_stands_back_stands_no_further_back() -> None:
    ours = niceness()

    def of_a_second() -> int:
        with ThreadPoolExecutor(1, initializer=stand_back) as second:
            return second.submit(niceness).result()

    with ThreadPoolExecutor(1, initializer=stand_back) as pool:
        assert pool.submit(of_a_second).result() == min(LAST, ours + STEPS_BACK)


def test_where_the_system_refuses_it_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refused)
    with ThreadPoolExecutor(1, initializer=stand_back) as pool:
        assert pool.submit(lambda: "done").result() == "done"
