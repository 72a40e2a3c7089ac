"""What every room's tests may use."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.requirements import read_requirements

REPOSITORY = Path(__file__).resolve().parent.parent
FAULTS = [f"F{number:02d}" for number in range(1, 31)]
"""The rows of the failure matrix."""
REQUIREMENTS = read_requirements(REPOSITORY / "docs" / "requirements.md")

_proofs: Counter[str] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count the tests that say which row of the failure matrix they prove; a row that there is not is an error."""
    for item in items:
        for mark in item.iter_markers("requirement"):
            if unknown := [name for name in mark.args if name not in REQUIREMENTS] or not mark.args:
                raise pytest.UsageError(f"{item.nodeid}: requirement({unknown}) is not in docs/requirements.md")
        for mark in item.iter_markers("fault"):
            if len(mark.args) != 1 or not re.fullmatch(r"F\d\d", str(mark.args[0])) or mark.args[0] not in FAULTS:
                raise pytest.UsageError(f"{item.nodeid}: fault{mark.args} is no row of the failure matrix (F01 to F30)")
            _proofs[mark.args[0]] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where several processes share the tests (pytest-xdist), each has collected all: send the count along."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["proofs"] = dict(_proofs)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of these processes ended."""
    _proofs.update(Counter(getattr(node, "workeroutput", {}).get("proofs", {})) - _proofs)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the failure matrix: which rows have tests among those collected."""
    if not _proofs:
        return
    terminalreporter.section("failure matrix (tests collected for each row)")
    terminalreporter.write_line("  ".join(f"{row}: {_proofs[row]}" for row in FAULTS if _proofs[row]))
    terminalreporter.write_line("no test among these: " + " ".join(row for row in FAULTS if not _proofs[row]))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real images; tests that need them are skipped, with a plain word, where they are absent."""
    folder = Path(os.environ.get("DERMASCAN_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "ham10000" / "labels.csv").exists():
        pytest.skip(f"the real test images are not at {folder}; set DERMASCAN_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    """The newest demo bundle of this checkout."""
    folders = [path.parent for path in (REPOSITORY / "engines" / "models" / "demo").glob("*/manifest.json")]
    assert folders, "engines/models/demo holds no bundle"
    return max(folders, key=lambda folder: tuple(int(part) for part in folder.name.split(".")))


@pytest.fixture
def write_config(tmp_path: Path, demo_bundle: Path) -> Callable[..., Path]:
    """Write a working ``agent.toml`` into the test's folder, with text replaced: ``write_config((old, new))``."""

    def write(*replacements: tuple[str, str]) -> Path:
        text = f"""
[device]
id = "device-1"
clinic_id = "clinic-1"
state_dir = "state"

[[dermoscope]]
id = "scope-1"
folder = "scope-1"

[inference]
bundle = "{demo_bundle}"
require_trusted = false
ladder = ["cpu"]
deadline_s = 3.0

[store]
quota_mb = 1024
"""
        for old, new in replacements:
            assert old in text, f"{old!r} is not in the configuration"
            text = text.replace(old, new)
        (tmp_path / "scope-1").mkdir(exist_ok=True)
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return path

    return write
