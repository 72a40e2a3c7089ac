"""Memory goes back to the system: measured in a process of its own, as the setting is one of the whole process."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from agent.memory import TIDY_S, Tidying

PROGRAM = """
import sys, threading
import numpy as np
import psutil
from agent.memory import give_memory_back

if sys.argv[1] == "given back":
    assert give_memory_back()
me = psutil.Process()
np.ones(30 << 20, np.uint8)  # and gone: glibc learns from it what size to keep
before = me.memory_info().rss

def pictures():
    for _ in range(5):
        held = [np.ones(8 << 20, np.uint8) for _ in range(4)]
        kept.append(bytearray(100))  # lies behind them, and keeps a pool from shrinking
        del held

kept = []
threads = [threading.Thread(target=pictures) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print((me.memory_info().rss - before) >> 20)
"""


def kept_mb(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.fault("F23")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_what_six_threads_held_goes_back() -> None:
    assert kept_mb("given back") <= 4


GAPS = """
import sys

import numpy as np
import psutil
from agent.memory import give_memory_back

assert give_memory_back()
me = psutil.Process()
before = me.memory_info().rss
large, small = [], []
for _ in range((60 << 20) // int(sys.argv[1])):
    large.append(np.ones(int(sys.argv[1]), np.uint8))
    small.append(bytearray(5000))  # lies behind it, and stays
del large
print((me.memory_info().rss - before) >> 20)
"""


@pytest.mark.fault("F23")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
@pytest.mark.parametrize("size", [1024 * 768 * 3, 512 * 384 * 3, 200_000])
def test_pictures_leave_no_gaps_beside_what_stays(size: int) -> None:
    done = subprocess.run([sys.executable, "-c", GAPS, str(size)], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 5


SMALL_GAPS = """
import psutil
from agent.memory import give_memory_back, tidy

assert give_memory_back()
me = psutil.Process()
before = me.memory_info().rss
passing, staying = [], []
for _ in range(1000):
    passing.append(bytes(range(256)) * 240)
    staying.append(bytearray(5000))  # lies behind it, and stays
del passing
with_gaps = me.memory_info().rss - before
assert tidy()
print(with_gaps >> 20, (me.memory_info().rss - before) >> 20)
"""


@pytest.mark.fault("F23")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_small_gaps_between_what_stays_go_back() -> None:
    done = subprocess.run([sys.executable, "-c", SMALL_GAPS], capture_output=True, text=True, check=True)
    with_gaps, tidied = (int(number) for number in done.stdout.split())
    assert with_gaps >= 50, "the gaps that this is about are not there"
    assert tidied <= 15


@pytest.fixture
def only_by_tidying() -> Iterator[None]:
    """Python does not look for circles by itself."""
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


class Held:
    """What refers to itself, as an error does with the frames of its traceback."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.fault("F23")
@pytest.mark.usefixtures("only_by_tidying")
def test_circles_are_let_go_each_time_and_what_was_there_at_first_is_not_looked_at_again() -> None:
    now = [0.0]
    tidying = Tidying(lambda: True, lambda: now[0])
    now[0] = TIDY_S
    stays = Held()
    for _ in range(3):
        circle = weakref.ref(Held())
        assert circle() is not None, "there is no circle"
        tidying.look()
        assert circle() is None
        now[0] += TIDY_S
    assert gc.get_freeze_count() > 1000
    frozen = weakref.ref(stays)
    del stays
    tidying.look()
    assert frozen() is not None, "all modules and schemas are looked through, 50 ms each time"


@pytest.mark.usefixtures("only_by_tidying")
def test_tidying_waits_for_its_time_and_for_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now, at_rest, done = [0.0], [True], []
    monkeypatch.setattr("agent.memory.tidy", lambda: done.append(now[0]) or True)
    tidying = Tidying(lambda: at_rest[0], lambda: now[0])
    assert not tidying.look()
    now[0], at_rest[0] = TIDY_S, False
    assert not tidying.look()
    at_rest[0] = True
    assert tidying.look()
    assert not tidying.look()
    now[0] = 2 * TIDY_S
    assert tidying.look()
    assert done == [TIDY_S, 2 * TIDY_S]
