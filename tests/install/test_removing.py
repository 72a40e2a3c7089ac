"""Uninstalling keeps what was kept; purging asks first; the clinic's pictures stay whatever happens."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.install import commands
from agent.install.journal import Outcome
from agent.install.layout import UNITS
from tests.install.pretended import Device

Make = Callable[..., Path]


@pytest.mark.requirement("R-SRV-6")
def test_software_goes_and_what_was_kept_stays(device: Device, release: Make) -> None:
    device.install(release("1.0"))
    device.install(release("1.1"))
    database = device.at("/var/lib/dermascan/dermascan.db")
    database.write_bytes(b"rows")
    own = device.at("/etc/systemd/system/dermascan-agent.service.d/90-mine.conf")
    own.parent.mkdir(parents=True)
    own.write_text("[Service]\nNice=5\n")
    removal = device.removal()
    removal.uninstall(purge=False)
    assert device.machine.state == "inactive"
    for gone in ("/opt/dermascan", "/opt/dermascan-releases", "/usr/local/bin/dermascan"):
        assert not device.at(gone).exists()
        assert not device.at(gone).is_symlink()
    left = [path for path in device.root.rglob("*dermascan-*") if path.name in UNITS]
    assert left == []
    assert database.read_bytes() == b"rows"
    assert device.at("/etc/dermascan/agent.toml").exists()
    assert own.exists()
    assert any("not ours" in entry.what for entry in removal.journal.entries if entry.outcome is Outcome.NOTED)


@pytest.mark.requirement("R-SRV-6")
def test_what_stayed_is_taken_up_by_the_next_installation(device: Device, release: Make) -> None:
    device.install(release("1.0"))
    settings = device.at("/etc/dermascan/agent.toml")
    settings.write_text(settings.read_text() + "# kept\n")
    device.removal().uninstall(purge=False)
    device.install(release("1.1"))
    assert settings.read_text().endswith("# kept\n")


def test_uninstalling_twice_or_nothing_does_no_harm(device: Device, release: Make) -> None:
    device.removal().uninstall(purge=True)
    device.install(release())
    device.removal().uninstall(purge=False)
    device.removal().uninstall(purge=False)


@pytest.mark.requirement("R-SRV-6")
def test_a_purge_leaves_nothing_but_the_clinics_pictures(device: Device, release: Make) -> None:
    device.install(release())
    device.at("/etc/dermascan/credentials/key").write_text("secret")
    picture = device.at("/srv/dermascan/captures/scope-1/one.jpg")
    picture.write_bytes(b"picture")
    device.removal().uninstall(purge=True)
    assert picture.read_bytes() == b"picture"
    left = {str(path.relative_to(device.root)) for path in device.root.rglob("*") if "dermascan" in path.name}
    assert left == {"srv/dermascan"}


def test_a_purge_without_pictures_leaves_nothing_at_all(device: Device, release: Make) -> None:
    device.install(release())
    device.at("/srv/dermascan/captures/scope-1/.dermascan-folder").write_text("scope-1")
    device.removal().uninstall(purge=True)
    assert list(device.root.rglob("*dermascan*")) == []


@pytest.mark.requirement("R-SRV-6")
def test_a_purge_says_first_what_would_be_lost(
    device: Device, release: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    device.install(release())
    with sqlite3.connect(device.at("/var/lib/dermascan/dermascan.db")) as database:
        database.execute("CREATE TABLE outbox (seq INTEGER PRIMARY KEY, state TEXT)")
        database.executemany("INSERT INTO outbox (state) VALUES (?)", [("waiting",)] * 7 + [("acknowledged",)] * 3)
    database.close()
    assert commands.main(["uninstall", "--purge", "--root", str(device.root)]) == 1
    said = capsys.readouterr().err
    assert "7 events that the cloud has not" in said
    assert "--yes" in said
    assert device.at("/opt/dermascan").exists()


def test_a_database_that_cannot_be_read_is_no_empty_one(device: Device) -> None:
    database = device.at("/var/lib/dermascan/dermascan.db")
    database.parent.mkdir(parents=True)
    database.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    assert device.removal().unsent() is None
