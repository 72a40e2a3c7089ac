from __future__ import annotations

import sqlite3

import pytest

from agent.records.sqlite_version import explain, is_safe, running


@pytest.mark.fault("F09")
@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 6, 23), True),
        ((3, 7, 0), False),
        ((3, 37, 2), False),
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 44, 7), True),
        ((3, 45, 1), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_versions(version, safe):
    assert is_safe(version) is safe
    assert ("can lose" in explain(version)) is not safe


def test_the_running_one_is_named():
    assert running() == sqlite3.sqlite_version_info
    assert sqlite3.sqlite_version in explain()


@pytest.mark.fault("F09")
def test_the_store_has_one_connection(open_store, claim, monkeypatch):
    """The workaround itself: whatever is asked, nobody opens a second connection."""
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: opened.append(args) or connect(*args, **kwargs))
    store = open_store()
    after_opening = len(opened)
    claim(store)
    store.counts()
    store.unfinished()
    store.close()
    assert len(opened) == after_opening
