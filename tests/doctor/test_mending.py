"""Mending: takes rights away, makes folders, removes leftovers; follows nothing and adds no right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.doctor.finding import Kind, Mend
from agent.doctor.mending import NotMended, mend
from agent.doctor.place import user_of
from tests.doctor.conftest import as_other_user

US = user_of(os.geteuid())
OTHER = 12345


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_rights_are_taken_and_never_given(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch()
    path.chmod(0o444)
    assert mend(Mend(Kind.CHMOD, str(path), 0o640), US) == f"{path}: mode 444 is now 440."
    assert mode(path) == 0o440
    assert "already" in mend(Mend(Kind.CHMOD, str(path), 0o777), US)
    assert mode(path) == 0o440


def test_a_link_or_a_second_name_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "passwd"
    target.touch()
    target.chmod(0o644)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(NotMended, match="is a link"):
        mend(Mend(Kind.CHMOD, str(tmp_path / "link"), 0o600), US)
    (tmp_path / "second").hardlink_to(target)
    with pytest.raises(NotMended, match="2 names"):
        mend(Mend(Kind.CHMOD, str(tmp_path / "second"), 0o600), US)
    assert mode(target) == 0o644
    mend(Mend(Kind.REMOVE, str(tmp_path / "link")), US)
    assert target.exists()
    assert not (tmp_path / "link").is_symlink()


@as_other_user(OTHER)
def test_what_belongs_to_another_user_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o666)
    os.chown(path, OTHER, OTHER)
    for what in (Mend(Kind.CHMOD, str(path), 0o600), Mend(Kind.REMOVE, str(path))):
        with pytest.raises(NotMended, match="another user"):
            mend(what, US)
    assert mode(path) == 0o666


def test_folders(tmp_path: Path) -> None:
    path = tmp_path / "var" / "state"
    assert "was made (mode 750" in mend(Mend(Kind.MAKE_FOLDER, str(path), 0o750), US)
    assert mode(path) == 0o750
    assert "already" in mend(Mend(Kind.MAKE_FOLDER, str(path), 0o750), US)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert "already" in mend(Mend(Kind.MAKE_FOLDER, str(tmp_path / "gone"), 0o750), US)
    assert not (tmp_path / "nowhere").exists()


@as_other_user(OTHER)
def test_a_folder_belongs_to_the_agent_and_to_the_group_of_the_folder_above(tmp_path: Path) -> None:
    agent = user_of(1)
    os.chown(tmp_path, -1, OTHER)
    tmp_path.chmod(0o2770)
    mend(Mend(Kind.MAKE_FOLDER, str(tmp_path / "scope-1"), 0o770), agent)
    status = (tmp_path / "scope-1").stat()
    assert (status.st_uid, status.st_gid) == (1, OTHER)


def test_leftovers(tmp_path: Path) -> None:
    (tmp_path / ".working.a").mkdir()
    (tmp_path / ".working.a" / "plan").touch()
    assert "was removed" in mend(Mend(Kind.REMOVE, str(tmp_path / ".working.a")), US)
    assert not (tmp_path / ".working.a").exists()
    with pytest.raises(NotMended, match="could not be mended"):
        mend(Mend(Kind.REMOVE, str(tmp_path / ".working.a")), US)
