"""Ten thousand refused sign-ins are counted to the last one, in a few rows and little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from agent.access.refusals import RefusedSignIns
from agent.access.tokens import Refusal
from agent.records.store import AuditAction, Store


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_is_told_at_once_and_those_after_it_together():
    told: list[dict[str, object]] = []
    clock = Clock()
    refusals = RefusedSignIns(told.append, clock)
    refusals.refused(Refusal.UNKNOWN, "10.0.0.1")
    assert told == [{"count": 1, "reasons": {"unknown": 1}, "addresses": ["10.0.0.1"], "token_ids": []}]
    refusals.refused(Refusal.REVOKED, "10.0.0.2", "abc")
    refusals.refused(Refusal.UNKNOWN, "10.0.0.1")
    assert len(told) == 1
    clock.now += 121
    refusals.flush()
    refusals.flush()
    assert told[1:] == [
        {
            "count": 2,
            "reasons": {"revoked": 1, "unknown": 1},
            "addresses": ["10.0.0.2", "10.0.0.1"],
            "token_ids": ["abc"],
        }
    ]


def test_at_the_end_nothing_is_left_untold():
    told: list[dict[str, object]] = []
    refusals = RefusedSignIns(told.append, Clock())
    for _ in range(3):
        refusals.refused(Refusal.EXPIRED, "x")
    refusals.flush(at_the_end=True)
    refusals.flush(at_the_end=True)
    assert [one["count"] for one in told] == [1, 2]


def test_after_a_quiet_time_the_next_is_told_at_once_again():
    told: list[dict[str, object]] = []
    clock = Clock()
    refusals = RefusedSignIns(told.append, clock)
    for _ in range(3):
        refusals.refused(Refusal.UNKNOWN, "x")
        clock.now += 3 * 3600
    assert len(told) == 3
    refusals.refused(Refusal.UNKNOWN, "x")
    clock.now += 61
    refusals.refused(Refusal.UNKNOWN, "x")
    assert len(told) == 5


@pytest.mark.fault("F06")
@pytest.mark.fault("F28")
def test_ten_thousand_of_them_fill_neither_the_disk_nor_the_memory(tmp_path):
    with Store.open(tmp_path / "state", "device-1", 256, clinic_id="c", software_version="9.9") as store:
        clock = Clock()
        promises = []

        def tell(detail: dict[str, object]) -> None:
            promises.append(store.audit(AuditAction.SIGN_IN_REFUSED, "somebody", "none", None, detail))

        refusals = RefusedSignIns(tell, clock)
        attack(refusals, clock, 1000)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        attack(refusals, clock, 10_000)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        refusals.flush(at_the_end=True)
        rows = [promise.result(10) for promise in promises]
        assert after - before < 100_000
        assert len(rows) < 40
        assert store.wal_bytes < 2_000_000


def attack(refusals: RefusedSignIns, clock: Clock, times: int) -> None:
    refuse: Callable[..., None] = refusals.refused
    for number in range(times):
        refuse(Refusal.UNKNOWN, f"10.0.{number % 250}.{number}" + "x" * 1000)
        clock.now += 1.0
