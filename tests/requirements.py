"""Which tests prove which requirement: ``python -m tests.requirements`` writes docs/trace.md (``make trace``)."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[1]
REQUIREMENTS_FILE: Final = REPOSITORY / "docs" / "requirements.md"
TRACE_FILE: Final = REPOSITORY / "docs" / "trace.md"
HEAD: Final = """# Trace

Each requirement of [requirements.md](requirements.md) with the tests that prove it, as `make trace` found them; `F01` …
are rows of the failure matrix, whose tests count. Parametrised tests stand once, with how many they are; *(long)* ones
run with `make test-long`.
"""


@dataclass(frozen=True)
class Requirement:
    """One row of the table."""

    name: str
    sentence: str
    rows: tuple[str, ...]
    """Of the failure matrix."""


def read_requirements(path: Path) -> dict[str, Requirement]:
    """The requirements by id, in their order.

    Raises:
        ValueError: an id stands there twice.
    """
    found: dict[str, Requirement] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| R-") and len(cells) == 4:
            if cells[0] in found:
                raise ValueError(f"{path}: {cells[0]} stands there twice")
            found[cells[0]] = Requirement(cells[0], cells[1], tuple(re.findall(r"F\d\d", cells[3])))
    return found


class Collector:
    """A pytest plugin that notes which tests carry which marks."""

    def __init__(self) -> None:
        self.by_mark: dict[str, dict[str, int]] = defaultdict(dict)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Called once all tests are known."""
        for item in session.items:
            long = " *(long)*" if item.get_closest_marker("long") else ""
            name = f"`{item.nodeid.partition('[')[0]}`{long}"
            marks = [*item.iter_markers("fault"), *item.iter_markers("requirement")]
            for label in {str(label) for mark in marks for label in mark.args}:
                tests = self.by_mark[label]
                tests[name] = tests.get(name, 0) + 1


def trace(requirements: Mapping[str, Requirement], by_mark: Mapping[str, Mapping[str, int]]) -> str:
    """The trace table as Markdown."""
    parts = [HEAD]
    for requirement in requirements.values():
        parts.append(f"\n## {requirement.name}\n\n{requirement.sentence}\n")
        for label in (requirement.name, *requirement.rows):
            tests = by_mark.get(label, {})
            prefix = "" if label == requirement.name else f"{label}: "
            parts += [f"- {prefix}{name}{f' ({count})' if count > 1 else ''}" for name, count in sorted(tests.items())]
    return "\n".join(parts) + "\n"


def unproved(requirements: Mapping[str, Requirement], by_mark: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The requirements without a test of their own or of a row that they name."""
    return [name for name, it in requirements.items() if not any(by_mark.get(label) for label in (name, *it.rows))]


def main() -> int:
    """Collect, write, and say what is missing; returns the exit code."""
    requirements, collector = read_requirements(REQUIREMENTS_FILE), Collector()
    code = pytest.main(["--collect-only", "-qq", "--no-summary", "-m", ""], plugins=[collector])
    if code != pytest.ExitCode.OK:
        return int(code)
    TRACE_FILE.write_text(trace(requirements, collector.by_mark), encoding="utf-8")
    missing = unproved(requirements, collector.by_mark)
    print(f"{TRACE_FILE}: {len(requirements)} requirements, {len(missing)} without a test {' '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
