from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from agent.answer.aside import Aside, here


@pytest.fixture
def aside() -> Iterator[Aside]:
    one = Aside(1)
    yield one
    one.close()


def test_work_goes_on_beside_who_began_it(aside: Aside) -> None:
    met = threading.Barrier(2)
    result = aside.begin(lambda: met.wait(10) >= 0)
    met.wait(10)
    assert result()


def test_what_no_thread_has_got_to_is_done_by_who_asks_for_it(aside: Aside) -> None:
    go_on = threading.Event()
    first = aside.begin(lambda: go_on.wait(10))
    second = aside.begin(threading.get_ident)
    assert second() == threading.get_ident()
    go_on.set()
    assert first()


def test_an_error_reaches_who_asks(aside: Aside) -> None:
    def fails() -> int:
        raise ValueError("no good")

    for begin in (aside.begin, here):
        with pytest.raises(ValueError, match="no good"):
            begin(fails)()


@pytest.mark.fault("F23")
@pytest.mark.parametrize("busy", [False, True])
def test_what_was_refused_is_let_go_at_once(aside: Aside, busy: bool) -> None:
    """A picture of 36 MB in a circle of error, frames and promise would stay until Python looks for such."""
    go_on = threading.Event()

    def prepare() -> weakref.ref[object]:
        picture = np.zeros(1000)
        held = weakref.ref(picture)

        def judge() -> None:
            assert picture.size
            raise ValueError("blank")

        judged = aside.begin(judge)
        with pytest.raises(ValueError, match="blank"):
            judged()
        return held

    if busy:
        blocked = aside.begin(lambda: go_on.wait(10))
    gc.collect()
    gc.disable()
    try:
        held = prepare()
        if busy:  # what was begun and not reached is dropped by the thread when it comes to it
            go_on.set()
            blocked()
            aside.begin(int)()
        assert held() is None
    finally:
        gc.enable()
