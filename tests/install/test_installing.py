"""Installing, again, another release, and the way back: onto a device that is a folder."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.install.installing import Wishes
from agent.install.journal import InstallError, Outcome, SettingsRefused
from agent.install.layout import FOLDERS, TIMERS, UNITS
from agent.records.store import Store
from tests.install.pretended import CAPTURES_GID, GID, UID, Device

Make = Callable[..., Path]


def whose(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def snapshot(root: Path) -> dict[str, Any]:
    """Everything in a folder: kind, mode, owner, content."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (*whose(path), content)
    return found


def test_nothing_becomes_a_whole_installation(device: Device, release: Make) -> None:
    device.machine.real_pip = True
    device.install(release())
    owners = {"root": 0, "dermascan": UID}
    groups = {"root": 0, "dermascan": GID, "dermascan-captures": CAPTURES_GID}
    for folder in FOLDERS:
        assert whose(device.at(folder.path)) == (folder.mode, owners[folder.owner], groups[folder.group])
    settings = device.at("/etc/dermascan/agent.toml")
    assert whose(settings) == (0o640, 0, GID)
    text = settings.read_text()
    assert 'id = "room-2"' in text
    assert 'clinic_id = "clinic-a"' in text
    assert 'folder = "/srv/dermascan/captures/scope-1"' in text
    assert whose(device.at("/srv/dermascan/captures/scope-1")) == (0o2770, UID, CAPTURES_GID)
    for unit in UNITS:
        assert whose(device.at(f"/usr/local/lib/systemd/system/{unit}")) == (0o644, 0, 0)
    enabled = {path.name for path in device.root.glob("etc/systemd/system/*.wants/*")}
    assert enabled == {"dermascan-agent.service", *TIMERS}
    assert device.at("/opt/dermascan/bin/dermascan").is_file()
    assert device.at("/opt/dermascan/models/demo/1.0.0/manifest.json").is_file()
    assert not list(device.root.glob("opt/dermascan/lib/python3*/site-packages/pip"))
    assert device.machine.state == "active"


def test_the_settings_made_are_settings_that_the_agent_takes(device: Device, release: Make, demo_bundle: Path) -> None:
    from agent.config import load_config

    device.install(release())
    config = load_config(device.at("/etc/dermascan/agent.toml"))
    assert (config.device.id, config.device.clinic_id) == ("room-2", "clinic-a")
    assert str(config.device.state_dir) == "/var/lib/dermascan"
    assert str(config.inference.bundle) == f"/opt/dermascan/models/demo/{demo_bundle.name}"


@pytest.mark.requirement("R-SRV-6")
def test_a_second_time_changes_nothing_and_restarts_nothing(device: Device, release: Make) -> None:
    folder = release()
    device.install(folder)
    before = snapshot(device.root)
    again = device.install(folder)
    assert snapshot(device.root) == before
    assert {entry.outcome for entry in again.journal.entries} == {Outcome.KEPT}
    assert device.machine.restarts == 1


def test_without_names_nothing_is_started_and_the_remedy_is_said(device: Device, release: Make) -> None:
    device.wishes = Wishes(dev=device.root / "dev")
    notes = [entry.what for entry in device.install(release()).journal.entries if entry.outcome is Outcome.NOTED]
    assert device.machine.restarts == 0
    assert any("[device] id, clinic_id" in note for note in notes)
    device.installation().fit_anew()
    assert device.machine.restarts == 1


@pytest.mark.parametrize("name", ["", "room 2", 'x"\nstate_dir = "/etc', "-x", "x" * 65])
def test_a_name_that_no_setting_could_hold_is_refused(device: Device, release: Make, name: str) -> None:
    device.wishes = Wishes(device_id=name, clinic_id="clinic-a", dev=device.root / "dev")
    with pytest.raises(InstallError, match="--device-id"):
        device.install(release())
    assert not device.at("/etc/dermascan/agent.toml").exists()


@pytest.mark.fault("F29")
@pytest.mark.requirement("R-SRV-6")
def test_an_upgrade_keeps_settings_secrets_and_a_full_outbox(device: Device, release: Make) -> None:
    device.install(release("1.0"))
    settings = device.at("/etc/dermascan/agent.toml")
    settings.write_text(settings.read_text().replace("deadline_s = 3.0", "deadline_s = 2.0"))
    secret = device.at("/etc/dermascan/credentials/pseudonym.key")
    secret.write_bytes(bytes(range(32)))
    state = device.at("/var/lib/dermascan")
    with Store.open(state, "room-2", 64, clinic_id="clinic-a", software_version="1.0") as store:
        from agent.intake.capture import FileStamp
        from agent.intake.reasons import Reason

        for number in range(50):
            stamp = FileStamp(1, number, 1, number, number)
            claim = store.claim(f"{number:064x}", f"{number:064x}", Path(f"/x/{number}.jpg"), "scope-1", stamp).result()
            store.reject(claim.scan_id, Reason.UNREADABLE, "it cannot be read").result()
        assert store.counts().waiting == 50
    kept = snapshot(state)
    device.install(release("1.1"))
    assert device.running.startswith("1.1-")
    assert snapshot(state) == kept
    assert "deadline_s = 2.0" in settings.read_text()
    assert secret.read_bytes() == bytes(range(32))
    with Store.open(state, "room-2", 64, clinic_id="clinic-a", software_version="1.1") as store:
        assert store.counts().waiting == 50


def test_two_releases_are_kept_and_no_more(device: Device, release: Make) -> None:
    for version in ("1.0", "1.1", "1.2"):
        device.install(release(version))
    assert {path.name.split("-")[0] for path in device.at("/opt/dermascan-releases").iterdir()} == {
        "1.1",
        "1.2",
        "previous",
    }
    assert device.installation().go_back().startswith("1.1-")
    assert device.running.startswith("1.1-")
    assert device.installation().go_back().startswith("1.2-")


def test_there_is_no_way_back_from_the_first(device: Device, release: Make) -> None:
    device.install(release())
    with pytest.raises(InstallError, match="no release to go back to"):
        device.installation().go_back()


@pytest.mark.fault("F27")
@pytest.mark.requirement("R-SRV-6")
def test_a_release_that_does_not_start_gives_way_to_the_one_before(device: Device, release: Make) -> None:
    device.install(release("1.0"))
    with pytest.raises(InstallError, match=r"does not start.*\n.*\n?.*1\.0-.* runs again"):
        device.install(release("1.1", starts=False))
    assert device.running.startswith("1.0-")
    assert device.machine.state == "active"


@pytest.mark.fault("F24")
def test_settings_that_the_new_release_refuses_stop_it_before_anything_changes(device: Device, release: Make) -> None:
    device.install(release("1.0"))
    settings = device.at("/etc/dermascan/agent.toml")
    settings.write_text(settings.read_text() + "# OLD-KEY\n")
    device.machine.said.clear()
    with pytest.raises(SettingsRefused, match=r"agent\.toml: device\.id"):
        device.install(release("1.1", refuses="OLD-KEY"))
    assert device.running.startswith("1.0-")
    assert device.machine.state == "active"
    assert not device.machine.restarts


@pytest.mark.fault("F27")
@pytest.mark.parametrize("step", ["_environment", "_share"])
def test_an_installation_that_breaks_off_is_done_whole_the_next_time(
    device: Device, release: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from agent.install.software import Software

    device.install(release("1.0"))
    newer = release("1.1")
    whole = getattr(Software, step)

    def breaks(self: Software, *rest: Any, **more: Any) -> None:
        whole(self, *rest, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Software, step, breaks)
        # A power cut cleans nothing up.
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            device.install(newer)
    assert device.running.startswith("1.0-")
    device.install(newer)
    assert device.running.startswith("1.1-")
    assert device.at("/opt/dermascan/share/systemd/dermascan-agent.service").is_file()


def test_what_an_administrator_disabled_or_stopped_stays_so(device: Device, release: Make) -> None:
    device.install(release("1.0"))
    link = device.at("/etc/systemd/system/timers.target.wants/dermascan-backup.timer")
    link.unlink()
    device.machine.state = "inactive"
    device.machine.said.clear()
    device.install(release("1.1"))
    assert not link.is_symlink()
    assert not device.machine.restarts


def test_a_failed_agent_is_started_by_an_upgrade(device: Device, release: Make) -> None:
    device.install(release("1.0"))
    device.machine.state = "failed"
    device.install(release("1.1"))
    assert device.machine.state == "active"


def test_something_in_the_way_is_named_and_left_alone(device: Device, release: Make) -> None:
    device.at("/opt").mkdir()
    device.at("/opt/dermascan").mkdir()
    with pytest.raises(InstallError, match=r"opt/dermascan: is in the way"):
        device.install(release())
    assert device.at("/opt/dermascan").is_dir()


def test_owners_and_modes_that_somebody_changed_are_put_right(device: Device, release: Make) -> None:
    device.install(release())
    folder, settings = device.at("/etc/dermascan/credentials"), device.at("/etc/dermascan/agent.toml")
    folder.chmod(0o777)
    settings.chmod(0o666)
    device.installation().fit_anew()
    assert whose(folder) == (0o700, 0, 0)
    assert whose(settings) == (0o640, 0, GID)


@pytest.mark.fault("F24")
def test_settings_changed_for_the_worse_leave_the_agent_as_it_runs(device: Device, release: Make) -> None:
    device.install(release("1.0", refuses="BROKEN"))
    settings = device.at("/etc/dermascan/agent.toml")
    settings.write_text(settings.read_text() + "# BROKEN\n")
    device.machine.said.clear()
    with pytest.raises(SettingsRefused, match=r"device\.id"):
        device.installation().fit_anew()
    assert not device.machine.restarts
    assert device.machine.state == "active"
