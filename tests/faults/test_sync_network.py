"""The sync through a bad network, in network namespaces of the test's own (F18, F22)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sync.network import BAD, BLACK_HOLE, FINE, LOSSY, SLOW, Weather, answers, percentiles, stream
from tests.fakes.wire import NoNamespaces, Wire

QUICK = {"reconnect_base_s": 0.2, "reconnect_cap_s": 0.5, "acknowledge_s": 2.0, "puback_s": 1.0, "connect_s": 1.0}


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    try:
        with Wire():
            pass
    except NoNamespaces as error:
        pytest.skip(f"no network of the test's own: {error}")


@pytest.mark.fault("F18")
def test_a_black_hole_swallows_nothing_for_good(tmp_path: Path) -> None:
    done = stream(tmp_path, BLACK_HOLE, events=60, per_s=20.0, limits=QUICK, settle_s=15.0)
    assert done.at_once < 15, "nothing comes through it, but for what was on its way just before"
    assert done.connections >= 2, "it is noticed though nobody says so"
    assert done.books.in_order, done.books


@pytest.mark.fault("F18")
def test_late_and_lossy_is_not_lost(tmp_path: Path) -> None:
    done = stream(tmp_path, Weather("bad", delay_s=0.1, loss=0.1), events=60, per_s=20.0, settle_s=15.0)
    assert done.books.in_order, done.books


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    ("weather", "per_s"),
    [(BLACK_HOLE, 3.0), (SLOW, 5.0), (LOSSY, 5.0), (BAD, 0.8)],
    ids=lambda one: getattr(one, "name", ""),
)
def test_minutes_of_it_lose_nothing(tmp_path: Path, weather: Weather, per_s: float) -> None:
    done = stream(tmp_path, weather, events=240, per_s=per_s)
    assert done.books.in_order, done.books


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_answer_is_later_for_it(tmp_path: Path) -> None:
    found, books = answers(tmp_path, [(FINE, 40), (BLACK_HOLE, 60), (BAD, 60), (FINE, 40)])
    assert books.in_order, books
    for one in found:
        assert percentiles(one.with_sync)[0] < 1.3 * percentiles(one.alone)[0] + 10.0, one
