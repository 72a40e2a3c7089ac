"""The dermoscopes' folders: missing, closed, exchanged, hanging, and hostile ones (F03, F05)."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from agent.doctor.checks import captures as check
from agent.doctor.checks.captures import CHECK
from agent.doctor.finding import Kind, Outcome
from tests.doctor.conftest import as_other_user, look

OTHER = 12345


def test_a_good_folder(make_place, tmp_path: Path) -> None:
    place = make_place()
    (tmp_path / "scope-1" / "a.jpg").touch()
    (tmp_path / "scope-1" / ".dermascan-folder").write_text("scope-1\n")
    assert look(CHECK, place).ok


def test_a_missing_folder(make_place, tmp_path: Path) -> None:
    place = make_place()
    (tmp_path / "scope-1").rmdir()
    finding = look(CHECK, place).one(Outcome.FAILED, "missing")
    assert finding.mend is not None
    assert finding.mend.kind is Kind.MAKE_FOLDER
    (tmp_path / "scope-1").touch()
    assert look(CHECK, place).one(Outcome.FAILED, "is no folder")


@pytest.mark.fault("F03")
def test_a_share_that_is_not_mounted_is_never_replaced_by_a_folder(make_place, root: Path, tmp_path: Path) -> None:
    place = make_place()
    (root / "etc").mkdir()
    (root / "etc/fstab").write_text(
        f"# shares\n//server/scope {tmp_path}/scope-1 cifs ro 0 0\n/dev/sda1 / ext4 rw 0 1\n"
    )
    finding = look(CHECK, place).one(Outcome.FAILED, "is not mounted")
    assert finding.remedy == f"run: sudo mount {tmp_path}/scope-1"
    assert not finding.fixable


@pytest.mark.fault("F03")
def test_exchanged_folders(make_place, tmp_path: Path) -> None:
    place = make_place()
    (tmp_path / "scope-1" / ".dermascan-folder").write_text("scope-2\n")
    assert "'scope-2'" in look(CHECK, place).one(Outcome.FAILED).sentence


@as_other_user(OTHER)
def test_a_folder_that_the_agent_may_not_read(make_place, tmp_path: Path) -> None:
    place = make_place()
    os.chown(place.state_dir, OTHER, OTHER)
    (tmp_path / "scope-1").chmod(0o700)
    finding = look(CHECK, place).one(Outcome.FAILED, "may not read")
    assert "setfacl -m u:12345:rx" in finding.remedy
    (tmp_path / "scope-1").chmod(0o755)
    tmp_path.chmod(0o700)
    assert look(CHECK, place).one(Outcome.FAILED, "cannot reach")


def test_a_folder_that_everybody_may_write(make_place, tmp_path: Path) -> None:
    place = make_place()
    (tmp_path / "scope-1").chmod(0o777)
    assert "chmod 775" in look(CHECK, place).one(Outcome.WARNING).remedy
    (tmp_path / "scope-1").chmod(0o1777)
    assert look(CHECK, place).ok


@pytest.mark.fault("F05")
def test_a_hostile_folder(make_place, tmp_path: Path) -> None:
    place, folder = make_place(), tmp_path / "scope-1"
    (folder / "passwd.jpg").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(folder)  # a socket's name is at most 108 bytes
        one.bind("s.jpg")
        os.chdir(here)
    (folder / "two\nlines.jpg").touch()
    os.mkfifo(folder / ".dermascan-folder")  # is not waited for
    told = look(CHECK, place)
    assert {one.outcome for one in told.findings} == {Outcome.WARNING}
    for text in ("1 links", "2 pipes", "1 sockets", "1 names with characters"):
        assert told.one(Outcome.WARNING, text)
    assert not [one for one in told.findings if "passwd" in one.sentence], "a file's name may be a patient's (F30)"


@pytest.mark.fault("F05")
def test_a_folder_of_a_million_files_is_not_counted_to_its_end(make_place, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(check, "MANY", 50)
    place = make_place()
    for number in range(60):
        (tmp_path / "scope-1" / f"{number}.jpg").touch()
    assert look(CHECK, place).one(Outcome.WARNING, "more than 50 files")


@pytest.mark.fault("F03")
def test_a_folder_that_hangs_hides_no_other_one(make_place, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = '[[dermoscope]]\nid = "scope-2"\nfolder = "scope-2"\n\n[inference]'
    (tmp_path / "scope-2").mkdir()
    place = make_place(("[inference]", second))
    release, real = threading.Event(), check._content

    def hang(scope):
        if scope.id == "scope-1":
            release.wait(20.0)
        return real(scope)

    monkeypatch.setattr(check, "_content", hang)
    monkeypatch.setattr(check, "PATIENCE_S", 0.2)
    told = look(CHECK, place)
    release.set()
    assert told.one(Outcome.FAILED, "scope-1 does not answer")
    assert told.one(Outcome.OK, "scope-2")


def test_a_folder_that_is_a_link(make_place, tmp_path: Path) -> None:
    place = make_place()
    (tmp_path / "scope-1").rename(tmp_path / "elsewhere")
    (tmp_path / "scope-1").symlink_to(tmp_path / "elsewhere")
    assert look(CHECK, place).one(Outcome.WARNING, "is a link to")
