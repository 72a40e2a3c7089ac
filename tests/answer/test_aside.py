from __future__ import annotations

import threading
from collections.abc import Iterator

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
