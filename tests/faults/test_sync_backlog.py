"""A backlog goes at speed, and what is fresh goes before it (F20), over mutual TLS with the real store."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sync.drain import measure


@pytest.mark.fault("F20")
def test_a_fresh_result_passes_a_backlog_within_a_second(tmp_path: Path) -> None:
    done = measure(tmp_path, 6000, 1000, quick=False, fresh_every_s=0.2)
    assert done.books is not None
    assert done.books.in_order, done.books
    assert done.books.posted == 6000 + len(done.fresh_ms)
    assert len(done.fresh_ms) >= 3
    assert max(done.fresh_ms) < 1000.0, done.fresh_ms


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.fault("F20")
def test_a_backlog_of_100_000(tmp_path: Path) -> None:
    done = measure(tmp_path, 100_000, 20_000, quick=False)
    assert done.books is not None
    assert done.books.in_order, done.books
    assert max(done.fresh_ms) < 1000.0
    assert done.settled_per_s > 0.6 * done.bare_to_ledger_per_s
