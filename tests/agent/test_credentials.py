"""A path in the settings means the same secret for the service and for an administrator."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.credentials import handed_over

SECRET = Path("/etc/dermascan/credentials/mqtt-password")


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "mqtt-password").write_text("s")
    return {"CREDENTIALS_DIRECTORY": str(tmp_path)}


def test_the_service_reads_what_it_was_handed(given: dict[str, str], tmp_path: Path) -> None:
    assert handed_over(SECRET, given) == tmp_path / "mqtt-password"


def test_a_command_of_roots_reads_the_file_itself() -> None:
    assert handed_over(SECRET, {}) == SECRET


@pytest.mark.parametrize("path", ["/etc/dermascan/mqtt-password", "/etc/dermascan/credentials/other"])
def test_nothing_else_is_looked_for_there(given: dict[str, str], path: str) -> None:
    assert handed_over(Path(path), given) == Path(path)
