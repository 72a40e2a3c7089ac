"""Every requirement has a test, and no folder of tests is passed over by the suite."""

from __future__ import annotations

import re
from collections import defaultdict
from fnmatch import fnmatch

import pytest

from tests.requirements import REPOSITORY, REQUIREMENTS_FILE, TRACE_FILE, Requirement, read_requirements, unproved

TESTS = REPOSITORY / "tests"
MARK = re.compile(r"mark\.(?:fault|requirement)\(([^)]*)\)")


def test_every_requirement_has_a_test() -> None:
    """By what the files say: a part of the suite that is not installed here proves its requirements elsewhere."""
    marks: dict[str, dict[str, int]] = defaultdict(dict)
    for path in TESTS.rglob("test_*.py"):
        for named in MARK.findall(path.read_text(encoding="utf-8")):
            for name in re.findall(r'"([^"]+)"', named):
                marks[name][path.name] = 1
    assert unproved(read_requirements(REQUIREMENTS_FILE), marks) == []


def test_the_trace_has_a_test_under_each_requirement() -> None:
    sections = TRACE_FILE.read_text(encoding="utf-8").split("\n## ")[1:]
    traced = {section.partition("\n")[0]: "\n- " in section for section in sections}
    assert list(traced) == list(read_requirements(REQUIREMENTS_FILE)), "make trace"
    assert [name for name, proved in traced.items() if not proved] == [], "make trace"


def test_one_without_a_test_would_be_seen() -> None:
    rows = {"R-1": Requirement("R-1", "", ()), "R-2": Requirement("R-2", "", ("F01",))}
    assert unproved(rows, {"F01": {"test": 1}}) == ["R-1"]


def test_no_folder_of_tests_is_passed_over(request: pytest.FixtureRequest) -> None:
    """pytest passes over folders named "build" unless it is told otherwise."""
    patterns = request.config.getini("norecursedirs")
    folders = {folder for path in TESTS.rglob("test_*.py") for folder in path.relative_to(TESTS).parts[:-1]}
    assert {"build", "page"} <= folders
    assert [one for one in sorted(folders) if any(fnmatch(one, pattern) for pattern in patterns)] == []
