"""The rows of the failure matrix, their tests and what they leave open: ``python -m tests.failure_matrix``.

It writes docs/failure-matrix.md. A row's words are a summary of our own; what is done about it stands in the tests.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.requirements import REPOSITORY, Collector

PAGE: Final = REPOSITORY / "docs" / "failure-matrix.md"
COLLECTED: Final = REPOSITORY.parent / "shared" / "failure-modes.md"
"""Where the rows were collected, for those who work on this; it is no part of the repository."""


@dataclass(frozen=True)
class Row:
    """What happens, and what of it is not proved by a test that runs anywhere."""

    what: str
    left: str = ""


ROWS: Final = {
    "F01": Row("a half-written capture"),
    "F02": Row("lost file events, a watch that died"),
    "F03": Row(
        "a network share that drops, and looks like an empty folder",
        "a real NFS or CIFS server that goes away (the folder is exchanged, and the mount's kind is pretended): needs "
        "kernel modules and a second machine",
    ),
    "F04": Row("the same name, inode or content again"),
    "F05": Row("files that are no pictures, bombs, odd names, things that are no files"),
    "F06": Row("a full disk", "a worn-out flash chip that turns read-only: hardware"),
    "F07": Row("a database that others lock"),
    "F08": Row("a log that grows behind a reader"),
    "F09": Row(
        "SQLite's lost pages with two connections",
        "the loss itself, a race of microseconds in SQLite: what is proved is that there is one connection only",
    ),
    "F10": Row("a damaged, emptied or foreign database"),
    "F11": Row(
        "a power cut",
        "a real cut with the disk's own cache: what a cut may leave is simulated in SQLite's file layer, and calls "
        "fail or stop short in the whole process",
    ),
    "F12": Row("an engine that fails, hangs, dies or lies", "a real Xid or a real uncorrectable memory error of a GPU"),
    "F13": Row("a machine without a working driver", "each vendor's broken driver: its ways to fail are pretended"),
    "F14": Row(
        "a stale, foreign or miscompiled plan",
        "a JetPack upgrade on a Jetson, and TensorRT 10.3 on its GPU: hardware; other versions and GPUs are pretended",
    ),
    "F15": Row("plans are native code"),
    "F16": Row("a clock that starts in 1970, jumps, or goes back", "a board without a battery that boots: hardware"),
    "F17": Row("a storm of reconnections"),
    "F18": Row("acknowledged by the broker, and gone"),
    "F19": Row("duplicates"),
    "F20": Row("a backlog that hides today's patient"),
    "F21": Row("a message that cannot be sent"),
    "F22": Row("traps of the MQTT client"),
    "F23": Row("a leak", "10,000 captures take hours: benchmarks/memory.py and the soak; the suite proves the limits"),
    "F24": Row("a wrong configuration"),
    "F25": Row("wedged, and still 'active (running)'"),
    "F26": Row("a cloud that refuses, hangs, or answers rubbish"),
    "F27": Row("an interrupted update"),
    "F28": Row("the same error ten thousand times"),
    "F29": Row("rows of an older version"),
    "F30": Row("a patient's identity that leaks"),
}

_HEAD: Final = """# The failure matrix

What goes wrong on a device in a clinic, and the tests that prove what is done about it; they carry the row's id
(`@pytest.mark.fault("F01")`), and `make test` fails where a row has none. Written by `python -m tests.failure_matrix`.
*(whole)* are those in `tests/faults/`, which drive the whole agent; *(long)* ones run with `make test-long`.
All rows together, at random and for as long as one likes: `make soak` ([its results](../benchmarks/soak.md)).
"""


def page(by_mark: Mapping[str, Mapping[str, int]]) -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for name, row in ROWS.items():
        parts.append(f"\n## {name}: {row.what}\n")
        parts.append(f"Not proved by a test that runs anywhere: {row.left}.\n" if row.left else "")
        tests = sorted(by_mark.get(name, {}).items(), key=lambda item: ("tests/faults/" not in item[0], item[0]))
        for test, count in tests:
            whole = " *(whole)*" if "tests/faults/" in test else ""
            parts.append(f"- {test}{f' ({count})' if count > 1 else ''}{whole}")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)) + "\n"


def rows_collected(path: Path = COLLECTED) -> list[str]:
    """The ids where the rows were collected; ours where that file is not here."""
    if not path.exists():
        return list(ROWS)
    return re.findall(r"^\| (F\d\d) \|", path.read_text(encoding="utf-8"), re.MULTILINE)


def main() -> int:
    """Collect, write, and say what is missing; returns the exit code."""
    collector = Collector()
    code = pytest.main(["--collect-only", "-qq", "--no-summary", "-m", ""], plugins=[collector])
    if code != pytest.ExitCode.OK:
        return int(code)
    PAGE.write_text(page(collector.by_mark), encoding="utf-8")
    missing = [name for name in rows_collected() if not collector.by_mark.get(name)]
    print(f"{PAGE}: {len(ROWS)} rows, {len(missing)} without a test {' '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
