"""Who a folder is: markers, and the kinds of file system that are polled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent.intake.folder_identity import MARKER, FolderIdentity, needs_polling


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "scope"
    path.mkdir()
    return path


def swap(folder: Path) -> Path:
    """Put an empty folder in the place of this one; the old one's new place."""
    away = folder.with_name("away")
    folder.rename(away)
    folder.mkdir()
    return away


@pytest.mark.fault("F03")
def test_an_empty_mount_point_never_gets_a_marker_by_itself(folder: Path) -> None:
    identity = FolderIdentity(folder, "scope-1")
    identity.adopt()
    assert not identity.believed()
    assert not (folder / MARKER).exists()


@pytest.mark.fault("F03")
def test_a_share_that_drops_while_it_is_being_marked_leaves_no_marker_in_the_mount_point(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = FolderIdentity(folder, "scope-1")
    identity.adopt()
    real, away = os.open, []

    def drop_first(path: object, *arguments: Any, **named: Any) -> int:
        if str(path).endswith(MARKER) and not away:
            away.append(swap(folder))
        return real(path, *arguments, **named)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(os, "open", drop_first)
    identity.captured()
    assert away
    assert not (folder / MARKER).exists()
    assert (away[0] / MARKER).read_text() == "scope-1\n"
    assert not identity.believed()


@pytest.mark.fault("F03")
def test_a_new_folder_is_the_same_until_another_lies_in_its_place(folder: Path) -> None:
    identity = FolderIdentity(folder, "scope-1")
    assert identity.same()
    identity.adopt()
    assert identity.same()
    (folder / MARKER).write_text("scope-2\n")
    assert not identity.same()
    (folder / MARKER).write_text("scope-1\n")
    assert identity.same()
    swap(folder)
    assert not identity.same()
    folder.rmdir()
    assert not identity.same()


@pytest.mark.fault("F03")
def test_the_first_capture_marks_the_folder_for_this_and_later_runs(folder: Path) -> None:
    identity = FolderIdentity(folder, "scope-1")
    identity.adopt()
    identity.captured()
    assert identity.believed()
    assert FolderIdentity(folder, "scope-1").believed()


@pytest.mark.fault("F03")
def test_another_folder_in_its_place_is_believed_only_with_a_marker(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = FolderIdentity(folder, "scope-1")
    identity.adopt()
    identity.captured()
    away = swap(folder)
    assert not identity.believed()
    identity.captured()
    assert not (folder / MARKER).exists()
    assert not identity.believed()
    assert caplog.text.count("another folder lies at") == 1
    (folder / MARKER).touch()
    assert identity.believed()
    (folder / MARKER).unlink()
    folder.rmdir()
    away.rename(folder)
    assert identity.believed()


@pytest.mark.fault("F03")
def test_the_marker_of_another_dermoscope_is_not_believed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / MARKER).write_text("scope-2\n")
    identity = FolderIdentity(folder, "scope-1")
    identity.adopt()
    assert not identity.believed()
    assert "another dermoscope" in caplog.text


@pytest.mark.fault("F03")
def test_no_folder_is_not_believed(tmp_path: Path) -> None:
    identity = FolderIdentity(tmp_path / "none", "scope-1")
    identity.adopt()
    assert not identity.believed()


@pytest.mark.fault("F03")
def test_a_read_only_folder_is_known_by_its_inode(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_arguments: False)
    identity = FolderIdentity(folder, "scope-1")
    identity.adopt()
    assert identity.believed()
    swap(folder)
    assert not identity.believed()


@pytest.mark.fault("F03")
@pytest.mark.parametrize(
    ("kind", "polled"),
    [("ext4", False), ("overlay", False), ("tmpfs", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True)],
)
def test_network_shares_are_polled(tmp_path: Path, kind: str, polled: bool) -> None:
    share = tmp_path / "a share"
    (share / "scope").mkdir(parents=True)
    place = str(share.resolve()).replace(" ", "\\040")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"27 1 254:0 / / rw - ext4 /dev/vda rw\n30 27 0:33 / {place} rw,relatime shared:1 - {kind} server:/x rw\n"
        f"31 27 0:34 / {place}x rw - nfs server:/y rw\n"
    )
    assert needs_polling(share / "scope", mounts) is polled
    assert not needs_polling(tmp_path, mounts)
