"""The failure matrix is whole: every row has a test, and the page that shows them names every row."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.failure_matrix import PAGE, ROWS, page, rows_collected
from tests.requirements import REPOSITORY


def test_the_rows_are_those_that_were_collected() -> None:
    assert rows_collected() == list(ROWS) == [f"F{number:02d}" for number in range(1, 31)]


def test_rows_are_read_out_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "rows.md").write_text("| id | what |\n|---|---|\n| F01 | one |\n| F31 | a new one |\n")
    assert rows_collected(tmp_path / "rows.md") == ["F01", "F31"]
    assert rows_collected(tmp_path / "absent.md") == list(ROWS)


def test_every_row_has_a_test_that_runs_in_the_suite(request: pytest.FixtureRequest) -> None:
    """Not only a long one. Where a part of the suite runs, the files say which rows they prove."""
    found: Counter[str] = Counter()
    if request.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        for item in request.session.items:
            if item.get_closest_marker("long") is None:
                found.update(mark.args[0] for mark in item.iter_markers("fault"))
    else:
        for path in (REPOSITORY / "tests").rglob("test_*.py"):
            found.update(re.findall(r"mark\.fault\(\"(F\d\d)\"\)", path.read_text(encoding="utf-8")))
    assert [name for name in rows_collected() if not found[name]] == []


def test_the_page_names_every_row_and_what_is_left_open() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, row in ROWS.items():
        assert f"\n## {name}: {row.what}\n" in text, f"{name}: python -m tests.failure_matrix"
        assert row.left in text
    for path in set(re.findall(r"`(tests/[^:`]+)::", text)):
        assert (REPOSITORY / path).exists(), f"{path} is gone: python -m tests.failure_matrix"


def test_a_row_without_a_test_would_be_seen() -> None:
    assert "## F01" in page({})
    assert "- " not in page({}).partition("## F01")[2]
