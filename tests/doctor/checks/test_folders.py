"""The agent's own folders: there, its own, and closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.doctor.checks.folders import CHECK
from agent.doctor.finding import Kind, Outcome
from tests.doctor.conftest import as_other_user, look

OTHER = 12345


def test_folders_as_they_should_be(make_place) -> None:
    place = make_place()
    (place.state_dir / "results").mkdir(mode=0o750)
    assert look(CHECK, place).ok


def test_a_missing_state_folder(make_place) -> None:
    finding = look(CHECK, make_place(state=False)).one(Outcome.FAILED)
    assert finding.mend is not None
    assert (finding.mend.kind, finding.mend.mode) == (Kind.MAKE_FOLDER, 0o750)
    assert "sudo install -d -m 750" in finding.remedy


@pytest.mark.parametrize(("mode", "right", "text"), [(0o755, "750", "look into"), (0o777, "770", "change what is in")])
@pytest.mark.parametrize("name", [".", "results", "access"])
def test_what_is_open_to_everybody(make_place, name: str, mode: int, right: str, text: str) -> None:
    place = make_place()
    folder = place.state_dir / name
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)
    finding = look(CHECK, place).one(Outcome.FAILED, text)
    assert finding.remedy == f"run: sudo chmod {right} {folder}"
    assert finding.fixable


def test_a_link_in_the_place_of_a_folder(make_place, tmp_path: Path) -> None:
    place = make_place()
    (place.state_dir / "results").symlink_to(tmp_path)
    assert look(CHECK, place).one(Outcome.FAILED, "is a link")


def test_a_folder_above_that_everybody_can_write(make_place, tmp_path: Path) -> None:
    place = make_place()
    tmp_path.chmod(0o777)
    assert "chmod 775" in look(CHECK, place).one(Outcome.FAILED, "place of").remedy
    tmp_path.chmod(0o1777)
    assert look(CHECK, place).ok


def test_keys_and_models_that_everybody_can_write(make_place, tmp_path: Path) -> None:
    place = make_place()
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust").chmod(0o757)
    assert "chmod 755" in look(CHECK, place).one(Outcome.FAILED).remedy


@as_other_user(OTHER)
def test_a_folder_of_another_user(make_place) -> None:
    place = make_place()
    (place.state_dir / "results").mkdir(mode=0o750)
    os.chown(place.state_dir / "results", OTHER, OTHER)
    assert f"chown -R {place.user.name}" in look(CHECK, place).one(Outcome.FAILED, "does not belong").remedy


def test_a_state_folder_that_its_owner_may_not_write(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place()
    os.chown(place.state_dir, OTHER, OTHER) if os.geteuid() == 0 else pytest.skip("only root can give files away")
    place.state_dir.chmod(0o550)
    assert look(CHECK, place).one(Outcome.FAILED, "may not write")
